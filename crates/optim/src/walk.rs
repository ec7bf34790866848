//! Walks flat vectors in chunks on all threads, each element once.
//!
//! The chunks wait behind one lock and a free thread takes the next one. Which thread takes which
//! chunk varies; since every body here works element by element, the results do not.

use crate::Segment;
use heldout_kernels::Device;
use std::mem::take;
use std::sync::Mutex;

/// Elements per chunk: large enough that the lock costs nothing, small enough to share the work.
pub(crate) const CHUNK: usize = 16 * 1024;

/// One chunk of a segment. All slices are equally long, except those of vectors given empty.
pub(crate) struct Piece<'a, const R: usize, const F: usize, const C: usize> {
    pub segment: &'a Segment,
    pub read: [&'a [f32]; R],
    pub full: [&'a mut [f32]; F],
    pub compact: [&'a mut [f32]; C],
}

/// The vectors of a walk over segments.
pub(crate) struct Vectors<'a, const R: usize, const F: usize, const C: usize> {
    /// As long as the flat parameter vector, read only.
    pub read: [&'a [f32]; R],
    /// As long as the flat parameter vector.
    pub full: [&'a mut [f32]; F],
    /// Only the chosen segments, one behind the other; or empty where a state is not in use.
    pub compact: [&'a mut [f32]; C],
}

/// Calls `body` for every chunk of the segments that `chosen` accepts.
pub(crate) fn each_segment_chunk<const R: usize, const F: usize, const C: usize>(
    device: &Device,
    segments: &[Segment],
    chosen: fn(&Segment) -> bool,
    vectors: Vectors<R, F, C>,
    body: &(dyn Fn(Piece<R, F, C>) + Sync),
) {
    let walk = Mutex::new(SegmentWalk { segments, chosen, vectors, position: 0, done: 0 });
    device.pool().run(device.threads(), &|_| {
        loop {
            // Bound first, so that the lock is not held while the body works.
            let piece = walk.lock().expect("no holder of this lock panics").next();
            match piece {
                Some(piece) => body(piece),
                None => break,
            }
        }
    });
}

struct SegmentWalk<'a, const R: usize, const F: usize, const C: usize> {
    /// Segments not yet finished.
    segments: &'a [Segment],
    chosen: fn(&Segment) -> bool,
    vectors: Vectors<'a, R, F, C>,
    /// Elements of the flat vector already passed.
    position: usize,
    /// Elements of the first segment already handed out.
    done: usize,
}

impl<'a, const R: usize, const F: usize, const C: usize> SegmentWalk<'a, R, F, C> {
    fn next(&mut self) -> Option<Piece<'a, R, F, C>> {
        loop {
            let segment = self.segments.first()?;
            if self.done < segment.len() && (self.chosen)(segment) {
                return Some(self.take_piece(segment));
            }
            self.segments = &self.segments[1..];
            self.done = 0;
        }
    }

    fn take_piece(&mut self, segment: &'a Segment) -> Piece<'a, R, F, C> {
        let start = segment.range.start + self.done;
        let skipped = start - self.position;
        let len = CHUNK.min(segment.len() - self.done);
        self.done += len;
        self.position = start + len;
        let Vectors { read, full, compact } = &mut self.vectors;
        Piece {
            segment,
            read: read.each_mut().map(|vector| {
                let (head, tail) = vector[skipped..].split_at(len);
                *vector = tail;
                head
            }),
            full: full.each_mut().map(|vector| {
                let (head, tail) = take(vector)[skipped..].split_at_mut(len);
                *vector = tail;
                head
            }),
            compact: compact.each_mut().map(|vector| split_front(vector, len)),
        }
    }
}

/// What is done to a chunk: of vectors read, and of vectors written.
type ChunkBody<'a, const R: usize, const W: usize> =
    dyn Fn([&[f32]; R], [&mut [f32]; W]) + Sync + 'a;

/// Calls `body` for every chunk of vectors that are all equally long.
pub(crate) fn each_chunk<const R: usize, const W: usize>(
    device: &Device,
    chunk: usize,
    read: [&[f32]; R],
    write: [&mut [f32]; W],
    body: &ChunkBody<R, W>,
) {
    let len = write[0].len();
    assert!(read.iter().all(|v| v.len() == len) && write.iter().all(|v| v.len() == len));
    let rest = Mutex::new((read, write));
    device.pool().run(device.threads(), &|_| {
        loop {
            let (read, write) = {
                let mut rest = rest.lock().expect("no holder of this lock panics");
                let len = chunk.min(rest.1[0].len());
                let (read, write) = &mut *rest;
                let read = read.each_mut().map(|vector| {
                    let (head, tail) = vector.split_at(len);
                    *vector = tail;
                    head
                });
                (read, write.each_mut().map(|vector| split_front(vector, len)))
            };
            if write[0].is_empty() {
                break;
            }
            body(read, write);
        }
    });
}

/// Cuts `len` elements off the front; an empty vector stays empty.
fn split_front<'a>(vector: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let whole = take(vector);
    let at = len.min(whole.len());
    let (head, tail) = whole.split_at_mut(at);
    *vector = tail;
    head
}

/// Chooses every segment.
pub(crate) fn all(_: &Segment) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::{Precision, Role};

    #[test]
    fn every_chosen_element_is_visited_once_and_gaps_are_left_alone() {
        let segments = [
            segment("a", 2..5, &[3], Role::Bias),
            segment("b", 5..5 + 2 * CHUNK + 7, &[2 * CHUNK + 7], Role::Matrix),
            segment("c", 3 * CHUNK..3 * CHUNK + 1, &[1], Role::Bias),
        ];
        for threads in [1, 2, 3] {
            let device = Device::cpu(threads, Precision::F32).expect("a processor");
            let mut full = vec![0.0; 3 * CHUNK + 4];
            let mut compact = vec![0.0; 4];
            let chosen = |s: &Segment| s.role == Role::Bias;
            let vectors = Vectors { read: [], full: [&mut full], compact: [&mut compact] };
            each_segment_chunk(&device, &segments, chosen, vectors, &|piece| {
                let [full] = piece.full;
                let [compact] = piece.compact;
                full.iter_mut().for_each(|x| *x += 1.0);
                compact.iter_mut().for_each(|x| *x += 1.0);
            });
            assert_eq!(compact, [1.0; 4]);
            assert_eq!(full.iter().sum::<f32>(), 4.0);
            assert_eq!(full[2..5], [1.0; 3]);
            assert_eq!(full[3 * CHUNK], 1.0);
        }
    }

    #[test]
    fn plain_chunks_cover_everything_once() {
        let device = Device::cpu(2, Precision::F32).expect("a processor");
        let read: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let mut write = vec![1.0; 1000];
        each_chunk(&device, 17, [&read], [&mut write], &|[r], [w]| {
            w.iter_mut().zip(r).for_each(|(w, r)| *w += r);
        });
        assert!(write.iter().enumerate().all(|(i, &w)| w == i as f32 + 1.0));
    }
}
