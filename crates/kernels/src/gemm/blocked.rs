//! The product of large matrices: which part is packed when, and who computes what.
//!
//! K is cut into blocks whose length depends on K alone; each block's sums are made in registers
//! and added to c in order, so c's bits depend on nothing but the inputs and the instruction set.
//!
//! One operand is packed as a whole by all threads ("shared"); then each task takes some rows of
//! c (or columns, when there are more of these), packs its part of the other operand into a
//! buffer of its own that stays in its second-level cache, and goes through all tiles. Rows of a
//! in f32 are read in place.
#![allow(unsafe_code)]

use std::ops::Range;

use super::buffer::{LOCAL, SHARED};
use super::finish::{self, Block, Finish, Kept};
use super::pack::{Panel, Rows, emulate};
use super::round::Route;
use super::tile::{Emulate, Kernels, Left, Tile, TileKernel};
use super::{Accumulate, Mat};
use crate::device::{Device, Isa};
use crate::values::Storage;

/// Longest block along K, in units.
const DEPTH: usize = 384;
/// Most units of the shared operand that are packed at a time: 8 MiB of the third-level cache.
const SHARED_UNITS: usize = 2 << 20;
/// Most units of packed columns that stay in the second-level cache beside the rows: 512 KiB.
const NEAR_UNITS: usize = 128 << 10;
/// More values of c than a cache keeps until they are read again.
const FAR: usize = 4 << 20;
/// Bytes between rows that compete for the same sets of the first-level cache.
const SAME_SET: usize = 4096;
/// Values of the largest tile.
const TILE: usize = 14 * 32;
/// Most full tiles in a task, by rows and by columns.
const TASK_TILES: usize = 8;
/// Products below so many multiply-adds are not worth waking another thread for.
pub(super) const SERIAL: usize = 1 << 18;

/// A product with its operands checked.
pub(super) struct Product<'a> {
    pub isa: Isa,
    pub kernels: &'static Kernels,
    pub a: Mat<'a>,
    pub b: Mat<'a>,
    pub c: *mut f32,
    /// Where values go as bf16 instead of to c; K is then one block.
    pub narrow: Option<*mut u16>,
    pub ldc: usize,
    pub accumulate: Accumulate,
    pub finish: Finish<'a>,
}

// SAFETY: c and what `finish` writes are cut into disjoint blocks, one task each.
unsafe impl Sync for Product<'_> {}

/// A pointer into the shared buffer that tasks may hold.
#[derive(Clone, Copy)]
struct Packed(*mut u32);
// SAFETY: while it is written each task has a part of its own; afterwards it is only read.
unsafe impl Sync for Packed {}

impl Packed {
    fn at(self, units: usize) -> *mut u32 {
        self.0.wrapping_add(units)
    }
}

/// What later tiles read and present ones ask for.
#[derive(Clone, Copy)]
enum Ahead {
    /// After a part's own packed columns those that begin here.
    Columns(*const u32),
    /// So many units of packed rows, as the columns are near anyway.
    Rows(*const u32, usize),
}

/// A rectangle of c and a block of K.
#[derive(Clone)]
struct Part {
    rows: Range<usize>,
    cols: Range<usize>,
    block: usize,
}

impl Product<'_> {
    /// Computes the product on the device's threads.
    pub fn run(&self, device: &Device) {
        if self.b.cols > self.a.rows {
            self.run_by_columns(device);
        } else {
            self.run_by_rows(device);
        }
    }

    /// b is shared; tasks take rows.
    fn run_by_rows(&self, device: &Device) {
        let (width, panel) = (self.kernels.cols(), self.kernels.cols() * self.block_units());
        let panels = self.b.cols.div_ceil(width);
        let (across, along) = chunk(panels, self.blocks(), panel);
        for panels in steps(0..panels, across) {
            let cols = panels.start * width..self.b.cols.min(panels.end * width);
            for blocks in steps(0..self.blocks(), along) {
                SHARED.with_borrow_mut(|shared| {
                    let shared = Packed(shared.room(panels.len() * blocks.len() * panel));
                    // As many tasks as keep all threads busy to the end.
                    let groups = panels.len().div_ceil(TASK_TILES);
                    let most = panels.len().div_ceil(groups.next_multiple_of(device.threads()));
                    let groups = panels.len().div_ceil(most);
                    self.fork(device, groups * blocks.len(), self.b.cols, &|task| {
                        let (block, group) = (task / groups, task % groups * most);
                        let out = shared.at((block * panels.len() + group) * panel);
                        let first = cols.start + group * width;
                        let cols = first..cols.end.min(first + most * width);
                        self.pack_columns(out, cols, blocks.start + block);
                    });
                    let tiles = self.a.rows.div_ceil(self.kernels.rows);
                    self.for_each_range(device, tiles, &|tiles| {
                        let height = self.kernels.rows;
                        let rows = tiles.start * height..self.a.rows.min(tiles.end * height);
                        let part = Part { rows, cols: cols.clone(), block: blocks.start };
                        self.row_task(part, blocks.len(), shared, panels.len() * panel);
                    });
                });
            }
        }
    }

    /// Rows of c for `blocks` blocks of K, whose packed columns are `stride` units apart.
    fn row_task(&self, part: Part, blocks: usize, shared: Packed, stride: usize) {
        LOCAL.with_borrow_mut(|local| {
            for number in 0..blocks {
                let part = Part { block: part.block + number, ..part.clone() };
                let left = if self.reads_rows_in_place() {
                    self.rows_in_place(part.rows.start, part.block)
                } else {
                    let units = self.left_units(part.rows.len());
                    let out = local.room(units);
                    self.pack_left(out, part.rows.clone(), part.block)
                };
                // After the last block another task begins with the first.
                let next = shared.at((number + 1) % blocks * stride);
                self.tiles(&part, left, shared.at(number * stride), Ahead::Columns(next));
            }
        });
    }

    /// a is shared (or read in place); tasks take columns.
    fn run_by_columns(&self, device: &Device) {
        let height = self.kernels.rows;
        let groups = self.a.rows.div_ceil(TASK_TILES * height);
        let group_units = self.left_units(TASK_TILES * height);
        let (across, along) = chunk(groups, self.blocks(), group_units);
        for groups in steps(0..groups, across) {
            for blocks in steps(0..self.blocks(), along) {
                SHARED.with_borrow_mut(|shared| {
                    let shared = if self.reads_rows_in_place() {
                        Packed(std::ptr::null_mut())
                    } else {
                        let shared = Packed(shared.room(groups.len() * blocks.len() * group_units));
                        self.fork(device, groups.len() * blocks.len(), self.a.rows, &|task| {
                            let (block, number) = (task / groups.len(), task % groups.len());
                            let rows = self.group(groups.start + number);
                            let out = shared.at(task * group_units);
                            self.pack_left(out, rows, blocks.start + block);
                        });
                        shared
                    };
                    let panels = self.b.cols.div_ceil(self.kernels.cols());
                    self.for_each_range(device, panels, &|panels| {
                        self.column_task(panels, groups.clone(), blocks.clone(), shared);
                    });
                });
            }
        }
    }

    /// Some panels of columns, for groups of rows and blocks of K.
    fn column_task(
        &self,
        panels: Range<usize>,
        groups: Range<usize>,
        blocks: Range<usize>,
        shared: Packed,
    ) {
        let width = self.kernels.cols();
        let panel = width * self.block_units();
        let cols = panels.start * width..self.b.cols.min(panels.end * width);
        LOCAL.with_borrow_mut(|local| {
            let local = local.room(panels.len() * panel);
            for (number, block) in blocks.clone().enumerate() {
                self.pack_columns(local, cols.clone(), block);
                for group in groups.clone() {
                    let rows = self.group(group);
                    let (left, ahead) = if self.reads_rows_in_place() {
                        (self.rows_in_place(rows.start, block), Ahead::Columns(local))
                    } else {
                        let place = number * groups.len() + group - groups.start;
                        let next = (place + 1) % (groups.len() * blocks.len());
                        let units = self.left_units(TASK_TILES * self.kernels.rows);
                        let left = self.left_at(shared.at(place * units), block);
                        (left, Ahead::Rows(shared.at(next * units), units))
                    };
                    let part = Part { rows, cols: cols.clone(), block };
                    self.tiles(&part, left, local, ahead);
                }
            }
        });
    }

    /// All tiles of a part, from a's block and the packed columns; the epilogue at K's end.
    ///
    /// Panels of columns stay in the first-level cache while the rows go by, and each tile asks
    /// for its share of the next panel: one that comes from the third level, or from memory, is
    /// otherwise waited for. Where the rows of c compete for the same sets, c is written along
    /// its rows instead, over as many panels as the second level holds.
    fn tiles(&self, part: &Part, left: Left, columns: *const u32, ahead: Ahead) {
        let width = self.kernels.cols();
        let panel = width * self.block_units();
        let group = if self.rows_compete() { (NEAR_UNITS / panel.max(1)).max(1) } else { 1 };
        let finish = (part.block + 1 == self.blocks()).then_some(&self.finish);
        let stops = self.narrow.is_some() || finish.is_some_and(|finish| !finish.is_plain());
        let ending = finish.and_then(|f| f.ending(&self.kernels.endings, self.narrow));
        let adds = part.block > 0 || self.accumulate == Accumulate::Add;
        let mut scratch = [0.0f32; TILE];
        let mut tile = self.tile(part, ahead);
        let (mut start, mut first) = (part.cols.start, columns);
        // No iterators of steps: their divisions are paid for between any two tiles.
        while start < part.cols.end {
            let end = part.cols.end.min(start + group * width);
            let after = first.wrapping_add(group * panel);
            if let Ahead::Columns(next) = ahead {
                tile.ahead = if end < part.cols.end { after } else { next };
            }
            let mut row = part.rows.start;
            while row < part.rows.end {
                let (height, kernels) = self.kernels.next(part.rows.end - row);
                (tile.a, tile.a_row, tile.a_step) = left.tile(row - part.rows.start);
                tile.b = first;
                let mut col = start;
                while col < end {
                    let offset = row * self.ldc + col;
                    let c = self.c.wrapping_add(offset);
                    tile.cols = width.min(end - col);
                    let whole = height == self.kernels.rows && tile.cols == width;
                    let ending = ending.filter(|_| whole);
                    (tile.c, tile.ldc) = match stops && (ending.is_none() || self.c.is_null()) {
                        false => (c, self.ldc),
                        true => (scratch.as_mut_ptr(), width),
                    };
                    if adds {
                        (tile.from, tile.from_row) = (c, self.ldc);
                    }
                    if part.block == 0 {
                        tile.bias = self.finish.bias_at(col);
                    }
                    // SAFETY: the tile lies inside a, the packed columns and c, and c's part is
                    // this task's.
                    unsafe {
                        match ending {
                            None => self.finished(&tile, kernels, finish, (offset, height, col)),
                            Some(kernel) => self.ended(&mut tile, kernel, offset),
                        }
                    }
                    tile.ahead = tile.ahead.wrapping_byte_add(tile.depth * tile.ahead_step);
                    tile.b = tile.b.wrapping_add(panel);
                    col += width;
                }
                row += height;
            }
            (start, first) = (end, after);
        }
        self.finish.publish();
        tile.route.publish();
    }

    /// What the tiles of a part have in common.
    fn tile(&self, part: &Part, ahead: Ahead) -> Tile {
        let tiles = part.rows.len().div_ceil(self.kernels.rows).max(1);
        let depth = self.depth_of(part.block).len().div_ceil(self.kernels.pair);
        let (ahead, ahead_step) = match ahead {
            Ahead::Columns(next) => (next, 4 * self.kernels.cols() / tiles),
            Ahead::Rows(next, units) => {
                let panels = part.cols.len().div_ceil(self.kernels.cols());
                (next, (4 * units).div_ceil((tiles * panels * depth).max(1)))
            }
        };
        Tile {
            depth,
            a: std::ptr::null(),
            a_row: 0,
            a_step: 0,
            b: std::ptr::null(),
            b_step: self.kernels.cols(),
            c: self.c,
            ldc: self.ldc,
            cols: 0,
            bias: std::ptr::null(),
            from: std::ptr::null(),
            from_row: 0,
            ahead,
            ahead_step,
            route: self.route(part.block),
            outputs: self.finish.outputs(None, 0, 0),
        }
    }

    /// Computes a tile of so many rows, `offset` values from the start of c and from column `col`
    /// on, and the epilogue at K's end.
    ///
    /// # Safety
    /// The tile must lie inside a, the packed columns and c, and c's part must be this task's.
    #[inline(always)]
    unsafe fn finished(
        &self,
        tile: &Tile,
        kernels: &[TileKernel; 2],
        finish: Option<&Finish>,
        (offset, rows, col): (usize, usize, usize),
    ) {
        let kernel = kernels[usize::from(tile.cols > self.kernels.lanes)];
        let stride = self.ldc;
        let stops = tile.c != self.c.wrapping_add(offset);
        if let Some(finish) = finish {
            finish.expect(offset, stride, rows);
            if stops && self.narrow.is_none() {
                finish::ask(self.c.wrapping_add(offset), stride, rows);
            }
        }
        // SAFETY: the caller's promise; the device has the instructions of its kernels.
        unsafe { kernel(tile) };
        if let Some(finish) = finish {
            let out = match self.narrow {
                Some(all) => Some(Kept::Halves(all.wrapping_add(offset))),
                None => stops.then(|| Kept::Floats(self.c.wrapping_add(offset))),
            };
            let &Tile { c, ldc, cols, .. } = tile;
            let block = Block { c, offset, ldc, stride, rows, col, cols, out };
            // SAFETY: as above.
            unsafe { finish.activate(&block) };
        }
    }

    /// Computes a whole tile with all that follows, in registers.
    ///
    /// # Safety
    /// As [`Product::finished`].
    #[inline(always)]
    unsafe fn ended(&self, tile: &mut Tile, kernel: TileKernel, offset: usize) {
        self.finish.expect(offset, self.ldc, self.kernels.rows);
        tile.outputs = self.finish.outputs(self.narrow, offset, self.ldc);
        // SAFETY: the caller's promise; the device has the instructions of its kernels.
        unsafe { kernel(tile) };
    }

    /// How the values of a block of K are written: past the cache where they are final and more
    /// than it keeps.
    fn route(&self, block: usize) -> Route {
        let last = block + 1 == self.blocks() && self.narrow.is_none();
        let far = self.a.rows * self.b.cols > FAR;
        if last && far && self.finish.is_plain() { Route::PastTheCache } else { Route::Cached }
    }

    /// Whether rows of c are so far apart that those of a tile compete in the cache.
    fn rows_compete(&self) -> bool {
        let bytes = if self.narrow.is_some() { 2 } else { 4 };
        (self.ldc * bytes).is_multiple_of(SAME_SET)
    }

    /// Number of blocks of K; one, though empty, if K is 0.
    fn blocks(&self) -> usize {
        if self.narrow.is_some() {
            return 1;
        }
        self.a.cols.div_ceil(DEPTH * self.kernels.pair).max(1)
    }

    /// Units along K in every block but the last, which may have fewer.
    fn block_units(&self) -> usize {
        self.a.cols.div_ceil(self.blocks()).div_ceil(self.kernels.pair)
    }

    /// The values along K of a block.
    fn depth_of(&self, block: usize) -> Range<usize> {
        let length = self.block_units() * self.kernels.pair;
        self.a.cols.min(block * length)..self.a.cols.min((block + 1) * length)
    }

    /// The rows of a group, of which there are as many as a task has tiles.
    fn group(&self, group: usize) -> Range<usize> {
        let height = TASK_TILES * self.kernels.rows;
        group * height..self.a.rows.min((group + 1) * height)
    }

    fn pack_columns(&self, out: *mut u32, cols: Range<usize>, block: usize) {
        let depth = self.depth_of(block);
        let panel = Panel {
            out,
            storage: self.b.storage(),
            step: self.kernels.cols(),
            from: self.b.at(depth.start, cols.start),
            k_stride: self.b.row_stride,
            lane_stride: self.b.col_stride,
            depth: depth.len(),
            lanes: cols.len(),
            height: self.kernels.cols(),
            next: self.kernels.cols() * self.block_units(),
        };
        // SAFETY: the columns lie inside b, and the caller made room for a panel.
        unsafe {
            self.kernels.packers.panel(&panel);
            let panels = cols.len().div_ceil(panel.step);
            emulate(self.isa, self.kernels.emulate, out, panels * panel.next);
        }
    }

    /// Whether tiles can read a as it lies: f32 with values along K adjacent, and rows whose
    /// distance does not make the rows of a tile compete for the same sets of the cache.
    fn reads_rows_in_place(&self) -> bool {
        let units = self.in_place_stride();
        let lines = units / 16;
        let sets = 64 >> lines.trailing_zeros().min(6);
        let plain = match self.a.storage() {
            Storage::Floats => self.kernels.pair == 1 && self.kernels.emulate == Emulate::No,
            Storage::Halves => true,
        };
        plain && self.a.col_stride == 1 && (sets >= 2 || !units.is_multiple_of(16))
    }

    fn rows_in_place(&self, row: usize, block: usize) -> Left {
        let start = self.a.at(row, self.depth_of(block).start).cast();
        Left::Any { start, row: self.in_place_stride(), step: 1 }
    }

    /// Distance of a's rows in units, where it has whole units.
    fn in_place_stride(&self) -> usize {
        match self.a.storage() {
            Storage::Floats => self.a.row_stride,
            Storage::Halves => self.a.row_stride / 2,
        }
    }

    /// Distance of packed rows: odd in cache lines, so that they spread over the cache's sets.
    fn row_step(&self) -> usize {
        (self.block_units().div_ceil(16) | 1) * 16
    }

    /// Room that a block of so many rows of a needs.
    fn left_units(&self, rows: usize) -> usize {
        let lanes = self.kernels.lanes;
        let panels = rows.div_ceil(self.kernels.rows);
        let panels = panels * self.kernels.rows.next_multiple_of(lanes) * self.block_units();
        panels.max(rows * self.row_step())
    }

    /// What `pack_left` has put at `start`.
    fn left_at(&self, start: *const u32, block: usize) -> Left {
        let depth = self.depth_of(block).len().div_ceil(self.kernels.pair);
        if self.a.col_stride == 1 {
            Left::Any { start, row: self.row_step(), step: 1 }
        } else {
            let rows = self.kernels.rows;
            Left::Panels { start, rows, step: rows.next_multiple_of(self.kernels.lanes), depth }
        }
    }

    fn pack_left(&self, out: *mut u32, rows: Range<usize>, block: usize) -> Left {
        let depth = self.depth_of(block);
        let left = self.left_at(out, block);
        // SAFETY: the rows lie inside a, and the caller made room for them.
        unsafe {
            match left {
                Left::Any { row: step, .. } if self.a.storage() == Storage::Halves => {
                    for (number, row) in rows.enumerate() {
                        let from = self.a.at(row, depth.start).cast::<u32>();
                        let to = out.wrapping_add(number * step);
                        std::ptr::copy_nonoverlapping(from, to, depth.len().div_ceil(2));
                    }
                }
                Left::Any { row: step, .. } => {
                    (self.kernels.packers.rows)(&Rows {
                        out,
                        step,
                        from: self.a.at(rows.start, depth.start),
                        row_stride: self.a.row_stride,
                        depth: depth.len(),
                        rows: rows.len(),
                    });
                    emulate(self.isa, self.kernels.emulate, out, rows.len() * step);
                }
                Left::Panels { rows: height, step, depth: units, .. } => {
                    let panel = Panel {
                        out,
                        storage: self.a.storage(),
                        step,
                        from: self.a.at(rows.start, depth.start),
                        k_stride: self.a.col_stride,
                        lane_stride: self.a.row_stride,
                        depth: depth.len(),
                        lanes: rows.len(),
                        height,
                        next: step * units,
                    };
                    self.kernels.packers.panel(&panel);
                    let panels = rows.len().div_ceil(height);
                    emulate(self.isa, self.kernels.emulate, out, panels * panel.next);
                }
            }
        }
        left
    }

    /// Runs packing tasks on all threads, or here if there is little to do.
    fn fork(&self, device: &Device, tasks: usize, lanes: usize, body: &(dyn Fn(usize) + Sync)) {
        if lanes * self.a.cols < SERIAL / 32 {
            (0..tasks).for_each(body);
        } else {
            device.pool().run(tasks, body);
        }
    }

    /// Calls `body` with ranges that cover `0..tiles`: long ones at both ends, short ones in the
    /// middle, where threads meet, so that they finish together.
    fn for_each_range(&self, device: &Device, tiles: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        let threads = device.threads();
        let work = self.a.rows * self.b.cols * self.a.cols;
        if threads == 1 || work < SERIAL {
            steps(0..tiles, TASK_TILES).for_each(body);
            return;
        }
        // Two halves, the second a mirror image: threads meet in the middle.
        let length = |left: usize| (left / threads).clamp(2, TASK_TILES).min(left);
        let halves = [tiles - tiles / 2, tiles / 2];
        let tasks = halves.map(|half| runs(half, length).count());
        device.pool().run(tasks[0] + tasks[1], &|task| {
            let mirrored = tasks[0] + tasks[1] - 1 - task;
            let range = if task < tasks[0] {
                runs(halves[0], length).nth(task)
            } else {
                runs(halves[1], length).nth(mirrored).map(|run| tiles - run.end..tiles - run.start)
            };
            body(range.expect("as many runs as tasks"));
        });
    }
}

/// Cuts `0..len` into runs; `length` says how long the next one is when so much is left.
fn runs(len: usize, length: impl Fn(usize) -> usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let run = start..start + length(len - start);
        start = run.end;
        (!run.is_empty()).then_some(run)
    })
}

/// How many of `lines` lines and `blocks` blocks, of `units` each, to pack at a time.
fn chunk(lines: usize, blocks: usize, units: usize) -> (usize, usize) {
    let most = (SHARED_UNITS / units.max(1)).max(1);
    let along = blocks.min((most / lines.clamp(1, 16)).max(1));
    (lines.min((most / along).max(1)), along)
}

/// `range` in steps of `step`.
fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step.max(1)).map(move |start| start..end.min(start + step.max(1)))
}
