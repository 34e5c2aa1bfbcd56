//! What a soak needs: definitions that change at random, and for each the answers that are right.
//!
//! A round is one definition. Its number is the value of the flag [`ROUND`] in it, so that a pinned version names its round
//! by itself, whatever generation it was published as. Before a round is written for flagsd to find, its [`Table`] lies beside it: the
//! naive evaluator's answers, which readers in every language compare theirs with.

mod rounds;
mod table;

pub use rounds::Rounds;
pub use table::{Row, Table, text_of};

/// The flag whose value is the number of the round.
pub const ROUND: &str = "soak-round";

/// Numbers that look random and are the same in every run with the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike, and the state is never 0.
        Self((seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * u128::from(end);
        u64::try_from(high >> 64).unwrap_or_default()
    }

    /// Whether a thing of this chance happens: one in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
