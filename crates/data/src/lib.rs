//! Text to batches of token ids: read, tokenize, split, deduplicate, leak-check, batch.
