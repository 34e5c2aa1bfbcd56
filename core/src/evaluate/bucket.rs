//! `fractional`: which bucket a key falls into. Version 2 of flagd's algorithm.
//!
//! The hash is MurmurHash3 x86 32 with seed 0 over the key's bytes; it is read as unsigned, multiplied by the sum of the
//! weights and shifted right by 32: no rounding, no floats.
//!
//! Source: Austin Appleby's public domain `MurmurHash3_x86_32`; flagd's fractional specification.

/// MurmurHash3 x86 32 over text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Murmur3 {
    state: u32,
    /// The last `len % 4` bytes, little-endian.
    tail: u32,
    len: u32,
}

impl Murmur3 {
    pub(crate) const fn new() -> Self {
        Self { state: 0, tail: 0, len: 0 }
    }

    /// Goes on where [`parts`](Self::parts) left off.
    #[inline]
    pub(crate) const fn resume([state, tail, len]: [u32; 3]) -> Self {
        Self { state, tail, len }
    }

    /// What is known so far.
    pub(crate) const fn parts(self) -> [u32; 3] {
        [self.state, self.tail, self.len]
    }

    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // The bytes that wait in the tail come before the new ones, so each block is put together of both.
        let waiting = 8 * (self.len % 4);
        let (blocks, rest) = bytes.as_chunks::<4>();
        for block in blocks {
            let wide = u64::from(self.tail) | u64::from(u32::from_le_bytes(*block)) << waiting;
            self.push(wide);
        }
        self.len = self.len.wrapping_add(low(bytes.len() as u64));
        // One to three bytes: the first, the middle and the last of them are all.
        let middle = rest.len() / 2;
        if let (Some(&first), Some(&middle_byte), Some(&last)) = (rest.first(), rest.get(middle), rest.last()) {
            let bytes =
                u32::from(first) | u32::from(middle_byte) << (8 * middle) | u32::from(last) << (8 * (rest.len() - 1));
            let wide = u64::from(self.tail) | u64::from(bytes) << waiting;
            if waiting as usize / 8 + rest.len() < 4 {
                self.tail = low(wide);
            } else {
                self.push(wide);
            }
        }
    }

    /// Takes the first four of eight bytes as a block and keeps the others waiting.
    #[inline]
    fn push(&mut self, wide: u64) {
        self.state = (self.state ^ scramble(low(wide))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        self.tail = low(wide >> 32);
    }

    #[inline]
    pub(crate) fn finish(self) -> u32 {
        let mut h = self.state;
        if !self.len.is_multiple_of(4) {
            h ^= scramble(self.tail);
        }
        h ^= self.len;
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }
}

/// The low half.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
const fn low(wide: u64) -> u32 {
    wide as u32
}

#[inline]
const fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

/// Where `hash` falls among `total` equal shares: 0 ≤ place < total.
#[inline]
// The product shifted is below `total`, so the cast loses nothing.
pub(crate) const fn place(hash: u32, total: u32) -> u32 {
    ((hash as u64 * total as u64) >> 32) as u32
}

/// The largest weight, and the largest sum of weights.
pub(crate) const MAX_WEIGHT: u32 = i32::MAX as u32;

/// What a computed weight counts: `None` where it is no weight at all.
pub(crate) fn weight(number: f64) -> Option<u32> {
    if number.fract() != 0.0 || number > f64::from(MAX_WEIGHT) {
        return None; // NaN and infinities have a NaN fraction
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 0 ..= 2^31-1")]
    Some(number.max(0.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> u32 {
        let mut whole = Murmur3::new();
        whole.write(text.as_bytes());
        for cut in (0..=text.len()).filter(|&cut| text.is_char_boundary(cut)) {
            let mut first = Murmur3::new();
            first.write(&text.as_bytes()[..cut]);
            let mut parts = Murmur3::resume(first.parts());
            parts.write(&text.as_bytes()[cut..]);
            assert_eq!(parts.finish(), whole.finish(), "{text:?} cut at {cut}");
        }
        whole.finish()
    }

    #[test]
    fn hashes_are_murmur3_whole_or_in_pieces() {
        // flagd-testbed's boundary keys, and the reference implementation's own values.
        for (key, value) in [
            ("ejOoVL", 0),
            ("bY9fO-", 1),
            ("SI7p-", 0x7fff_ffff),
            ("6LvT0", 0x8000_0000),
            ("ceQdGm", 0xffff_ffff),
            ("", 0),
            ("é", 269_551_495),
        ] {
            assert_eq!(hash(key), value, "{key:?}");
        }
        hash("a longer key that spans several blocks of four");
    }

    #[test]
    fn places_cover_the_range() {
        assert_eq!(place(0, 100), 0);
        assert_eq!(place(u32::MAX, 100), 99);
        assert_eq!(place(u32::MAX, MAX_WEIGHT), MAX_WEIGHT - 1);
        assert_eq!(place(0x8000_0000, 2), 1);
        assert_eq!(place(0x7fff_ffff, 2), 0);
    }

    #[test]
    fn weights_are_whole_and_bounded() {
        assert_eq!(weight(50.0), Some(50));
        assert_eq!(weight(-3.0), Some(0));
        assert_eq!(weight(2_147_483_647.0), Some(MAX_WEIGHT));
        for number in [0.5, 2_147_483_648.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(weight(number), None, "{number}");
        }
    }
}
