//! Whether one of two groups fails more often than the other, asked again and again while the answers come in. It keeps counts and
//! gives evidence; what is done about it is `rollout`'s.
//!
//! A fixed-sample test that is looked at after every block of answers gives a false alarm sooner or later. This one may be looked at
//! for ever: it is a mixture sequential probability ratio test (mSPRT; Robbins 1970, Johari et al. 2017) whose ratio for two
//! proportions is the E-variable of Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
//! optional stopping" (2021, JSPI 2024). For a block with `n_a` answers of the baseline, `f_a` of them failed, and `n_b`, `f_b` of the
//! canary,
//!
//! ```text
//!         a^f_a (1-a)^(n_a-f_a)  b^f_b (1-b)^(n_b-f_b)                          n_a a + n_b b
//!   E  =  --------------------------------------------     where     p  =  -----------------
//!                 p^f (1-p)^(n-f),  f = f_a + f_b                              n_a + n_b
//! ```
//!
//! with `a` estimated from earlier blocks only, and `b = a + d` for a rise `d`. Whatever the common rate is, and also when the
//! canary is the better one, E is at most 1 on average; so by Ville's inequality the product over all blocks ever reaches
//! `1 / alpha` with a chance of at most `alpha`. We do not know the rise: the product is averaged over `d` = 1, 2, 4, ... 64 times the
//! least rise of interest, which is again such a variable. Below about half of that least rise the evidence shrinks.

/// Answers of one group.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    pub total: u64,
    /// Of those.
    pub failed: u64,
}

impl Sample {
    /// Whether it can have been counted.
    pub(super) const fn is_sound(self) -> bool {
        self.failed <= self.total && self.total < COUNT_MAX
    }
}

/// Evidence that the second group fails more often than the first.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct RateTest {
    /// The least rise of interest.
    rise: f64,
    baseline: Sample,
    /// By rise: the logarithm of the product so far.
    log_products: [f64; RISES],
}

impl RateTest {
    /// `rise` is a share above 0.
    #[must_use]
    pub fn new(rise: f64) -> RateTest {
        RateTest { rise: rise.clamp(RATE_MIN, 0.5), baseline: Sample::default(), log_products: [0.0; RISES] }
    }

    /// The answers since the last block.
    pub fn handle_block(&mut self, baseline: Sample, canary: Sample) {
        // Without answers of both there is nothing to compare, only something to learn.
        if baseline.total > 0 && canary.total > 0 {
            let rate = self.baseline_rate();
            for (index, log_product) in (0_i32..).zip(&mut self.log_products) {
                let raised = (rate + self.rise * f64::from(index).exp2()).min(RATE_MAX);
                *log_product += log_ratio(rate, raised, baseline, canary);
            }
        }
        self.baseline.total += baseline.total;
        self.baseline.failed += baseline.failed;
    }

    /// Forgets the baseline's rate, because something else is counted as failed from now on. The evidence stays.
    pub fn forget_rate(&mut self) {
        self.baseline = Sample::default();
    }

    /// What `kept` (of an earlier process) has learned, if it looks for the same rise and is sound.
    #[must_use]
    pub(super) fn taken_up(self, kept: &RateTest) -> RateTest {
        #[expect(clippy::float_cmp, reason = "the same number out of the same configuration, or another one")]
        let is_same = kept.rise == self.rise;
        let is_sound = kept.log_products.iter().all(|log| log.is_finite()) && kept.baseline.is_sound();
        if is_same && is_sound { kept.clone() } else { self }
    }

    /// Whether the evidence suffices for a chance of a false alarm of at most `alpha` over the whole life of this test.
    #[must_use]
    pub fn is_raised(&self, alpha: f64) -> bool {
        self.log_evidence() >= -alpha.ln()
    }

    /// The logarithm of the averaged product.
    #[must_use]
    pub fn log_evidence(&self) -> f64 {
        let largest = self.log_products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.log_products.iter().map(|log| (log - largest).exp()).sum();
        largest + (sum / self.log_products.iter().map(|_| 1.0).sum::<f64>()).ln()
    }

    /// A guess of one in a hundred with the weight of ten answers, then what was seen.
    fn baseline_rate(&self) -> f64 {
        ((number(self.baseline.failed) + 0.1) / (number(self.baseline.total) + 10.0)).clamp(RATE_MIN, 0.98)
    }
}

fn log_ratio(rate: f64, raised: f64, baseline: Sample, canary: Sample) -> f64 {
    let (n_a, n_b) = (number(baseline.total), number(canary.total));
    let common = (n_a * rate + n_b * raised) / (n_a + n_b);
    let log_likelihood = |rate: f64, sample: Sample| {
        let failed = number(sample.failed.min(sample.total));
        failed * rate.ln() + (number(sample.total) - failed) * (-rate).ln_1p()
    };
    log_likelihood(rate, baseline) - log_likelihood(common, baseline) + log_likelihood(raised, canary) - log_likelihood(common, canary)
}

#[expect(clippy::cast_precision_loss, reason = "counts of answers stay far below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Far beyond every count of answers, and far below where sums overflow or numbers lose their last place.
pub(super) const COUNT_MAX: u64 = 1 << 48;
/// Rises looked for: the least, and six times twice as much.
const RISES: usize = 7;
const RATE_MIN: f64 = 1e-6;
const RATE_MAX: f64 = 0.99;
