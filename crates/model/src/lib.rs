//! Architectures and heads on the kernels: layout, forward, loss, generate, Hugging Face mapping.
