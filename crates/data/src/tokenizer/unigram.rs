//! Fitting a unigram language model of pieces: Kudo 2018, arXiv 1804.10959.
/// placeholder
pub(crate) fn fit(counts: &[(Box<[u8]>, u64)], pieces_max: usize) -> Vec<(Vec<u8>, f64)> {
    let _ = (counts, pieces_max);
    (0..=255u8).map(|b| (vec![b], -5.0)).collect()
}
