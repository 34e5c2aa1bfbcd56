//! `fractional`, version 2: which bucket a key falls into.

use super::value::Value;

/// The variant of the bucket that `key` falls into; null where the buckets are not well formed.
pub(super) fn choose(key: &str, buckets: &[Value]) -> Value {
    let Some(weighted) = buckets.iter().map(variant_and_weight).collect::<Option<Vec<_>>>() else { return Value::Null };
    let sum: u64 = weighted.iter().map(|(_, weight)| weight).sum();
    if sum > MOST {
        return Value::Null;
    }
    let bucket = (u64::from(murmur3_x86_32(key.as_bytes())) * sum) >> 32;
    let mut running_sum = 0;
    for (variant, weight) in weighted {
        running_sum += weight;
        if running_sum > bucket {
            return variant.clone();
        }
    }
    Value::Null // the sum is 0
}

const MOST: u64 = 0x7fff_ffff; // 2^31 - 1

fn variant_and_weight(bucket: &Value) -> Option<(&Value, u64)> {
    let Value::List(parts) = bucket else { return None };
    let variant = parts.first()?;
    if matches!(variant, Value::List(_) | Value::Object(_)) {
        return None;
    }
    let weight = match parts.get(1) {
        None | Some(Value::Null) => 1,
        Some(Value::Number(weight)) => whole_weight(*weight)?,
        Some(_) => return None,
    };
    Some((variant, weight))
}

fn whole_weight(weight: f64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "2^31 - 1 is exact")]
    let most = MOST as f64;
    if weight.is_infinite() || weight.fract() != 0.0 || weight > most {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within 0..=2^31-1")]
    Some(weight.max(0.0) as u64)
}

/// `MurmurHash3_x86_32` with seed 0. Source: Austin Appleby's SMHasher, in the public domain.
fn murmur3_x86_32(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut hash = 0_u32;
    for chunk in bytes.chunks(4) {
        let block = chunk.iter().rev().fold(0, |block, byte| block << 8 | u32::from(*byte));
        hash ^= scramble(block);
        if chunk.len() == 4 {
            hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the length enters modulo 2^32")]
    let length = bytes.len() as u32;
    hash ^= length;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_gives_published_values() {
        // The last five were found by search for the ends and the middle of the range.
        let cases: [(&str, u32); 9] = [
            ("", 0),
            ("test", 0xba6b_d213),
            ("Hello, world!", 0xc036_3e43),
            ("é", 269_551_495),
            ("ejOoVL", 0),
            ("bY9fO-", 1),
            ("SI7p-", 0x7fff_ffff),
            ("6LvT0", 0x8000_0000),
            ("ceQdGm", 0xffff_ffff),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur3_x86_32(key.as_bytes()), hash, "{key}");
        }
    }
}
