//! Optimizers, gradient transforms, weight averaging, over named flat parameters; knows no model.
