//! Random statements. Jobs and workers are chosen when a statement runs, among those that are there then.

use std::collections::BTreeSet;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::calls::{By, Call, Ending, Outcome, Rescue};
use super::model::{LOCKS, Model, NewJob, QUEUEING_LOCKS, QUEUES, Retry, Schedule};
use super::tables::PERIODIC_IDS;

/// An ID that does not exist.
const NOBODY: i64 = 1_000_000;

/// Which job is meant, before it is chosen: a kind and a number.
fn job() -> impl Strategy<Value = i64> + Clone {
    (prop_oneof![4 => 1..4_i64, 3 => Just(0), 1 => Just(4), 2 => Just(5)], 0..20_i64)
        .prop_map(|(kind, number)| kind * 100 + number)
}

fn chosen_job(choice: i64, model: &Model, known: &BTreeSet<i64>, worker: Option<i64>) -> i64 {
    let number = usize::try_from(choice % 100).unwrap();
    let matching: Vec<i64> = model
        .jobs
        .iter()
        .filter(|(_, job)| match choice / 100 {
            0 => job.status == "todo",
            1 => job.status == "doing" && worker.is_none_or(|worker| job.worker == Some(worker)),
            2 => matches!(job.status, "doing" | "failed"),
            3 => job.status == "doing" && job.worker.is_none(),
            4 => job.is_final(),
            _ => false,
        })
        .map(|(id, _)| *id)
        .collect();
    if let Some(len) = std::num::NonZero::new(matching.len()) {
        return matching[number % len];
    }
    known.iter().copied().chain([NOBODY]).nth(number % (known.len() + 1)).unwrap_or(NOBODY)
}

fn worker() -> impl Strategy<Value = i64> + Clone {
    (prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2)], 0..20_i64).prop_map(|(kind, number)| kind * 100 + number)
}

/// One of the workers that are registered, that hold jobs, or that ever were.
fn chosen_worker(choice: i64, model: &Model, known: &BTreeSet<i64>) -> i64 {
    let number = usize::try_from(choice % 100).unwrap();
    let matching: Vec<i64> = match choice / 100 {
        0 => model.workers.keys().copied().collect(),
        1 => model.jobs.values().filter(|job| job.status == "doing").filter_map(|job| job.worker).collect(),
        _ => known.iter().copied().collect(),
    };
    std::num::NonZero::new(matching.len()).map_or(NOBODY, |len| matching[number % len])
}

fn new_job() -> impl Strategy<Value = NewJob> + Clone {
    (
        select(&QUEUES[..]),
        select(vec![0, 1, -1, 2]),
        option::weighted(0.6, select(&LOCKS[..3])),
        option::weighted(0.25, select(&QUEUEING_LOCKS[..2])),
        prop_oneof![4 => Just(Schedule::AtOnce), 1 => Just(Schedule::Past), 1 => Just(Schedule::Future)],
    )
        .prop_map(|(queue, priority, lock, queueing_lock, schedule)| NewJob {
            queue,
            priority,
            lock,
            queueing_lock,
            schedule,
        })
}

fn schedule() -> impl Strategy<Value = Schedule> + Clone {
    select(vec![Schedule::AtOnce, Schedule::Past, Schedule::Future])
}

fn retry() -> impl Strategy<Value = Retry> + Clone {
    let priority = option::of(select(vec![0, 1, -1]));
    (schedule(), priority, option::of(select(&QUEUES[..])), option::of(select(&LOCKS[..])))
        .prop_map(|(at, priority, queue, lock)| Retry { at, priority, queue, lock })
}

fn queues() -> impl Strategy<Value = Option<Vec<&'static str>>> + Clone {
    option::weighted(0.5, subsequence(QUEUES.to_vec(), 0..=3))
}

fn end_status() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![8 => select(vec!["succeeded", "failed", "aborted"]), 1 => select(vec!["todo", "doing", "cancelled"])]
}

/// The attempt that is meant: any, the current one, or a former one.
fn attempts() -> impl Strategy<Value = Option<i32>> + Clone {
    prop_oneof![1 => Just(None), 4 => Just(Some(0)), 1 => Just(Some(-1)), 1 => Just(Some(1))]
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> + Clone {
    let finish = (select(vec!["succeeded", "failed", "aborted"]), any::<bool>())
        .prop_map(|(status, with_error)| Ending::Finish { status, with_error });
    let retry = (retry(), option::of(any::<bool>()), any::<bool>(), any::<bool>()).prop_map(
        |(retry, counts, is_deleted_if_failed, with_error)| Ending::Retry {
            retry,
            counts,
            is_deleted_if_failed,
            with_error,
        },
    );
    let ending = prop_oneof![4 => finish, 1 => Just(Ending::Delete), 3 => retry];
    // Mostly jobs that the worker holds.
    let id = prop_oneof![4 => 100..110_i64, 1 => job()];
    prop::collection::vec(
        (id, attempts(), ending).prop_map(|(id, attempts, ending)| Outcome { id, attempts, ending }),
        0..4,
    )
}

fn by() -> impl Strategy<Value = By> + Clone {
    select(vec![By::Contract, By::Crate])
}

fn defer(job: impl Strategy<Value = NewJob> + Clone + 'static) -> BoxedStrategy<Call> {
    let enqueued = job.clone().prop_map(|job| NewJob { queueing_lock: job.queueing_lock.or(Some("q")), ..job });
    prop_oneof![
        6 => job.clone().prop_map(Call::Defer),
        1 => prop::collection::vec(job.clone(), 0..5).prop_map(Call::DeferEach),
        2 => (select(vec!["keep", "replace", "replace_except_schedule"]), prop::collection::vec(enqueued, 0..4))
            .prop_map(|(choice, jobs)| Call::DeferOrReplace(choice, jobs)),
        2 => (by(), prop::collection::vec(job, 0..5)).prop_map(|(by, jobs)| Call::DeferJobs(by, jobs)),
    ]
    .boxed()
}

/// Fetching, and storing how attempts have ended.
fn work() -> BoxedStrategy<Call> {
    prop_oneof![
        6 => (worker(), queues()).prop_map(|(worker, queues)| Call::Fetch { worker, queues }),
        8 => (worker(), outcomes(), queues(), 0..4_usize, any::<bool>()).prop_map(
            |(worker, outcomes, queues, slots, one_by_one)| {
                Call::FinishAndFetch { worker, outcomes, queues, slots, one_by_one }
            }
        ),
    ]
    .boxed()
}

/// Changes by clients, of the contract or of both.
fn change(by: BoxedStrategy<By>, version: BoxedStrategy<Option<u8>>) -> BoxedStrategy<Call> {
    prop_oneof![
        3 => (by, job(), end_status(), prop::bool::weighted(0.25))
            .prop_map(|(by, id, status, delete)| Call::Finish { by, id, status, delete }),
        4 => (job(), any::<bool>(), prop::bool::weighted(0.25))
            .prop_map(|(id, abort, delete)| Call::Cancel { id, abort, delete }),
        4 => (version, job(), retry()).prop_map(|(version, id, retry)| Call::Retry { version, id, retry }),
    ]
    .boxed()
}

fn change_by_both() -> BoxedStrategy<Call> {
    change(by().boxed(), select(vec![Some(1), Some(2), None]).boxed())
}

/// Workers that come, go, stall and come back, and what becomes of their jobs.
fn workers() -> BoxedStrategy<Call> {
    let rescue =
        (prop_oneof![3 => 300..310_i64, 1 => job()], prop_oneof![4 => Just(0), 1 => Just(1)], option::of(retry()))
            .prop_map(|(id, attempts, retry)| Rescue { id, attempts, retry });
    let held = (prop_oneof![1 => 300..310_i64, 2 => 100..110_i64, 1 => job()], prop_oneof![4 => Just(0), 1 => Just(1)]);
    prop_oneof![
        1 => Just(Call::Register),
        1 => (by(), worker()).prop_map(|(by, worker)| Call::Unregister { by, worker }),
        1 => (by(), worker()).prop_map(|(by, worker)| Call::Heartbeat { by, worker }),
        1 => Just(Call::Prune),
        2 => Just(Call::ReleaseStalled),
        1 => worker().prop_map(|worker| Call::RemoveWorker { worker }),
        1 => worker().prop_map(|worker| Call::HeldJobs { worker }),
        1 => (worker(), prop::collection::vec(job(), 0..4))
            .prop_map(|(worker, ids)| Call::JobsOfWorker { worker, ids }),
        1 => Just(Call::DrawId),
        2 => (worker(), worker(), prop::collection::vec(held, 0..4))
            .prop_map(|(former, new, jobs)| Call::Reregister { former, new, jobs }),
        1 => Just(Call::JobsWithoutWorker),
        3 => prop::collection::vec(rescue, 0..4).prop_map(Call::Rescue),
        3 => worker().prop_map(|worker| Call::Silence { worker }),
    ]
    .boxed()
}

/// Ticks, old jobs, and single jobs that are rescheduled or deleted.
fn manage() -> BoxedStrategy<Call> {
    let tick = (
        by(),
        select(&PERIODIC_IDS[..]),
        1..5_i64,
        option::of(select(&LOCKS[..2])),
        option::weighted(0.3, select(&QUEUEING_LOCKS[..2])),
    );
    let statuses = subsequence(vec!["succeeded", "failed", "cancelled", "aborted"], 0..=4);
    prop_oneof![
        2 => tick.prop_map(|(by, periodic_id, tick, lock, queueing_lock)| {
            Call::Tick { by, periodic_id, tick, lock, queueing_lock }
        }),
        2 => (statuses, option::weighted(0.3, select(&QUEUES[..])))
            .prop_map(|(statuses, queue)| Call::DeleteOld { statuses, queue }),
        1 => (job(), schedule()).prop_map(|(id, at)| Call::Reschedule { id, at }),
        1 => job().prop_map(|id| Call::DeleteJob { id }),
        2 => Just(Call::Age),
    ]
    .boxed()
}

/// Statements of clients that know only the contract.
pub fn calls_of_contract() -> Vec<BoxedStrategy<Call>> {
    let change = change(Just(By::Contract).boxed(), select(vec![Some(1), Some(2)]).boxed());
    let replace =
        prop_oneof![Just(Call::Register), worker().prop_map(|worker| Call::Unregister { by: By::Contract, worker }),];
    vec![prop_oneof![9 => defer(new_job()), 14 => work(), 11 => change, 2 => replace].boxed()]
}

/// All statements, and fewer kinds of them, so that these meet more often.
pub fn calls() -> Vec<BoxedStrategy<Call>> {
    let simple =
        new_job().prop_map(|job| NewJob { lock: None, queueing_lock: None, schedule: Schedule::AtOnce, ..job });
    let locked = new_job().prop_map(|job| NewJob {
        lock: job.lock.and(Some(LOCKS[0])),
        queueing_lock: None,
        schedule: Schedule::AtOnce,
        ..job
    });
    vec![
        prop_oneof![9 => defer(new_job()), 14 => work(), 11 => change_by_both(), 10 => workers(), 6 => manage()]
            .boxed(),
        prop_oneof![4 => defer(locked), 6 => work(), 3 => change_by_both()].boxed(),
        prop_oneof![2 => defer(simple.clone()), 5 => work(), 1 => change_by_both(), 10 => workers()].boxed(),
        prop_oneof![2 => defer(simple), 5 => work(), 4 => change_by_both(), 3 => manage()].boxed(),
    ]
}

/// Statements of sessions that fetch jobs with the same locks. A job comes before those of its lock that others have
/// fetched, in transactions that are still open.
pub fn fetches() -> Vec<BoxedStrategy<Call>> {
    let locked = (new_job(), 0..100, select(&LOCKS[..3])).prop_map(|(job, priority, lock)| NewJob {
        priority,
        lock: Some(lock),
        queueing_lock: None,
        schedule: Schedule::AtOnce,
        ..job
    });
    let fetch = (worker(), 1..4_usize, any::<bool>()).prop_map(|(worker, slots, one_by_one)| Call::FinishAndFetch {
        worker,
        outcomes: Vec::new(),
        queues: None,
        slots,
        one_by_one,
    });
    vec![prop_oneof![8 => defer(locked), 8 => fetch, 3 => work()].boxed()]
}

impl Call {
    /// Chooses the jobs and workers.
    pub fn choose(&mut self, model: &Model, jobs: &BTreeSet<i64>, workers: &BTreeSet<i64>) {
        let job = |choice: &mut i64| *choice = chosen_job(*choice, model, jobs, None);
        let some_worker = |choice: &mut i64| *choice = chosen_worker(*choice, model, workers);
        let attempts = |id: i64| model.jobs.get(&id).map_or(0, |job| job.attempts);
        match self {
            Self::Fetch { worker, .. }
            | Self::Unregister { worker, .. }
            | Self::Heartbeat { worker, .. }
            | Self::RemoveWorker { worker }
            | Self::HeldJobs { worker }
            | Self::Silence { worker } => some_worker(worker),
            Self::FinishAndFetch { worker, outcomes, .. } => {
                some_worker(worker);
                let mut seen = BTreeSet::new();
                for outcome in outcomes.iter_mut() {
                    outcome.id = chosen_job(outcome.id, model, jobs, Some(*worker));
                    outcome.attempts = outcome.attempts.map(|distance| attempts(outcome.id) + distance);
                }
                outcomes.retain(|outcome| seen.insert(outcome.id));
            }
            Self::Finish { id, .. }
            | Self::Cancel { id, .. }
            | Self::Retry { id, .. }
            | Self::Reschedule { id, .. }
            | Self::DeleteJob { id } => job(id),
            Self::JobsOfWorker { worker, ids } => {
                some_worker(worker);
                ids.iter_mut().for_each(job);
            }
            Self::Reregister { former, new, jobs } => {
                some_worker(former);
                some_worker(new);
                let mut seen = BTreeSet::new();
                for (id, distance) in jobs.iter_mut() {
                    job(id);
                    *distance += attempts(*id);
                }
                jobs.retain(|(id, _)| seen.insert(*id));
                if former == new {
                    *self = Self::DrawId;
                }
            }
            Self::Rescue(rescues) => {
                let mut seen = BTreeSet::new();
                for rescue in rescues.iter_mut() {
                    job(&mut rescue.id);
                    rescue.attempts += attempts(rescue.id);
                }
                rescues.retain(|rescue| seen.insert(rescue.id));
            }
            _ => {}
        }
    }
}
