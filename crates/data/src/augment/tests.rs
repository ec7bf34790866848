//! Tests of the edits: identity at rate 0, the same for the same place, the expected share.
