//! Random inputs from seeds, made smaller when a test fails.
//!
//! Each case has its own seed, and a failing test prints the seed of its case. `PROCRASTINATE_TEST_SEED` runs the case of
//! one seed. `PROCRASTINATE_TEST_EFFORT` runs that many times as many cases, from seeds that differ each time.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// The variable that chooses the seed.
pub const SEED: &str = "PROCRASTINATE_TEST_SEED";

/// The variable that multiplies the number of cases.
pub const EFFORT: &str = "PROCRASTINATE_TEST_EFFORT";

/// How many times to make a failing input smaller.
const MOST_SHRINKS: u32 = 1_000;

/// The value of a variable that is a number.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// The seeds of so many cases.
fn seeds(cases: u64) -> std::ops::Range<u64> {
    if let Some(seed) = number(SEED) {
        return seed..seed + 1;
    }
    let effort = number(EFFORT).unwrap_or(1);
    let first = if effort > 1 {
        u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos()) << 32
    } else {
        0
    };
    first..first + cases * effort
}

/// Runs a test on so many inputs, each from its own seed. A failure is reported with the smallest input that still fails.
pub fn check<S>(cases: u64, inputs: &S, mut test: impl FnMut(S::Value) -> Result<(), TestCaseError>)
where
    S: Strategy,
    S::Value: Debug,
{
    for seed in seeds(cases) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: MOST_SHRINKS,
            max_local_rejects: 100_000,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let test = std::cell::RefCell::new(&mut test);
        match runner.run(inputs, |input| (test.borrow_mut())(input)) {
            Ok(()) => {}
            Err(TestError::Fail(reason, input)) => {
                panic!("{reason}\n\nthe smallest input that fails: {input:?}\nrun it again with {SEED}={seed}")
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}
