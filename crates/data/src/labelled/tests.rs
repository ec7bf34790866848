//! Tests of the whole way on small files, and on the real sets where they are.
