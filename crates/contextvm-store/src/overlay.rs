//! A file that is only read: what the database changes in it while it looks for the last whole state stays in memory.
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// Bytes that are kept apart together.
const BLOCK: u64 = 4_096;

/// What lies over a file. A repair writes a few blocks; all else is read from below.
#[derive(Debug)]
pub(crate) struct Overlay<B> {
    below: B,
    above: Mutex<Above>,
}

#[derive(Debug)]
struct Above {
    len: u64,
    /// From here on nothing of the file below is seen any more.
    hidden_from: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl<B: StorageBackend> Overlay<B> {
    pub(crate) fn new(below: B) -> io::Result<Self> {
        let len = below.len()?;
        Ok(Self { below, above: Mutex::new(Above { len, hidden_from: len, blocks: BTreeMap::new() }) })
    }

    fn above(&self) -> MutexGuard<'_, Above> {
        // What is inside is consistent at every moment.
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the file below shows, and nothing but zeros behind that.
    fn read_below(&self, hidden_from: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(hidden_from.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (seen, unseen) = out.split_at_mut(there);
        unseen.fill(0);
        if seen.is_empty() { Ok(()) } else { self.below.read(offset, seen) }
    }
}

/// The part of a block that a range covers, and where that part lies in the range.
fn shared(number: u64, offset: u64, len: usize) -> Option<(usize, usize, usize)> {
    let start = number * BLOCK;
    let (from, to) = (start.max(offset), (start + BLOCK).min(offset.saturating_add(len as u64)));
    let small = |value: u64| usize::try_from(value).ok();
    Some((small(from.checked_sub(start)?)?, small(from.checked_sub(offset)?)?, small(to.checked_sub(from)?)?))
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above();
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= above.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read_below(above.hidden_from, offset, out)?;
        for (number, block) in above.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let Some((inside, at, count)) = shared(*number, offset, out.len()) else { continue };
            if let (Some(into), Some(from)) = (out.get_mut(at..at + count), block.get(inside..inside + count))
            {
                into.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut above = self.above();
        above.hidden_from = above.hidden_from.min(len);
        // What comes to lie behind the end is zero should the end move back.
        drop(above.blocks.split_off(&len.div_ceil(BLOCK)));
        if let Some(last) = above.blocks.get_mut(&(len / BLOCK)) {
            let kept = usize::try_from(len % BLOCK).unwrap_or(0);
            last.iter_mut().skip(kept).for_each(|byte| *byte = 0);
        }
        above.len = len;
        Ok(())
    }

    /// There is nothing to sync: nothing of it is to reach the disk.
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above();
        let end = offset.checked_add(data.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let Some((inside, at, count)) = shared(number, offset, data.len()) else { continue };
            let mut block = match above.blocks.remove(&number) {
                Some(block) => block,
                None => {
                    let mut block = vec![0; BLOCK as usize];
                    self.read_below(above.hidden_from, number * BLOCK, &mut block)?;
                    block
                }
            };
            if let (Some(into), Some(from)) =
                (block.get_mut(inside..inside + count), data.get(at..at + count))
            {
                into.copy_from_slice(from);
            }
            above.blocks.insert(number, block);
        }
        above.len = above.len.max(end);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// An overlay and a plain memory hold the same, whatever is done; and what lies below stays as it was.
    #[test]
    fn an_overlay_is_like_a_file_and_leaves_the_one_below_alone() {
        let (below, plain) = (InMemoryBackend::new(), InMemoryBackend::new());
        let first: Vec<u8> = (0..20_000_u32).map(|at| at as u8 | 1).collect();
        for file in [&below, &plain] {
            file.set_len(20_000).unwrap();
            file.write(0, &first).unwrap();
        }
        let over = Overlay::new(below).unwrap();
        let mut seed = 7_u64;
        let mut chance = move |less: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % less
        };
        for nth in 0..4_000_u64 {
            let len = plain.len().unwrap();
            if chance(10) == 0 {
                let len = 1 + chance(30_000);
                for file in [&over as &dyn StorageBackend, &plain] {
                    file.set_len(len).unwrap();
                }
            } else {
                let at = chance(len);
                let data = vec![nth as u8; chance((len - at).min(9_000) + 1) as usize];
                for file in [&over as &dyn StorageBackend, &plain] {
                    file.write(at, &data).unwrap();
                }
            }
            let len = plain.len().unwrap();
            assert_eq!(over.len().unwrap(), len);
            let at = chance(len);
            let mut read = [vec![0; chance(len - at + 1) as usize], vec![]];
            read[1] = read[0].clone();
            over.read(at, &mut read[0]).unwrap();
            plain.read(at, &mut read[1]).unwrap();
            assert!(read[0] == read[1], "{nth}");
            over.sync_data().unwrap();
        }
        assert!(over.read(plain.len().unwrap(), &mut [0]).is_err());
        let mut last = vec![0; 20_000];
        over.below.read(0, &mut last).unwrap();
        assert!(last == first && over.below.len().unwrap() == 20_000);
    }
}
