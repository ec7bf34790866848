//! Recipe to plan to loop to evaluation to checkpoint.
