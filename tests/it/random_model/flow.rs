//! One connection that fetches while pauses and limits are set and removed. Each fetch starts exactly the jobs that the
//! rules say: the first ones for which there is room.

use std::collections::{HashMap, HashSet};

use diesel::PgConnection;

use super::{Random, connect};
use crate::support::{database, rows, sql};

const QUEUES: [&str; 4] = ["a", "b", "c", "d"];
const TASKS: [&str; 3] = ["x", "y", "z"];

/// A queue or task: its kind and its name.
type Target = (&'static str, String);

/// How a queue or task is paused and limited.
#[derive(Debug, Clone, Copy, Default)]
struct Control {
    is_paused: bool,
    max_running: Option<usize>,
    max_starts: Option<usize>,
}

#[derive(Debug, Default)]
struct Model {
    controls: HashMap<Target, Control>,
    /// Starts that were counted. The period is longer than the test.
    starts: HashMap<Target, usize>,
}

#[derive(Debug)]
struct Job {
    id: i64,
    targets: [Target; 2],
    lock: String,
    is_running: bool,
    is_due: bool,
}

#[test]
fn a_fetch_starts_the_first_jobs_that_no_pause_or_limit_holds_back() {
    for mut random in Random::each(0..12) {
        let database = database();
        let mut connection = connect(&database);
        add_jobs(&mut connection, &mut random);
        let mut model = Model::default();
        for _ in 0..20 {
            if random.once_in(2) {
                change_controls(&mut connection, &mut model, &mut random);
            }
            let queues = random.pick(&["NULL", "NULL", "'{a}'", "'{b,c}'", "'{a,b,unknown}'"]);
            let wanted = random.pick(&[1, 2, 5, 40]);
            let expected = expected(&mut connection, &mut model, queues, wanted);
            let fetch = format!(
                "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{{}}', '{{}}', {queues}, {wanted})
                 WHERE kind = 'fetched' ORDER BY id"
            );
            let fetched: Vec<i64> = rows(&mut connection, &fetch).iter().map(|id| id.parse().unwrap()).collect();
            assert_eq!(fetched, expected, "{wanted} jobs of {queues}, {model:?}");
            let one_in = 2 + random.below(3);
            let finish = "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'doing' AND id";
            sql(&mut connection, &format!("{finish} % {one_in} = 0"));
        }
    }
}

fn add_jobs(connection: &mut PgConnection, random: &mut Random) {
    for _ in 0..random.below(150) {
        let [queue, task] = [random.pick(&QUEUES), random.pick(&TASKS)];
        let priority = random.below(3);
        let lock = if random.once_in(3) { format!("'{}'", random.below(12)) } else { "NULL".to_owned() };
        let at = random.pick(&["NULL", "NULL", "NULL", "now() - interval '1 hour'", "now() + interval '1 day'"]);
        let columns = "queue_name, task_name, priority, lock, scheduled_at";
        let values = format!("'{queue}', '{task}', {priority}, {lock}, {at}");
        sql(connection, &format!("INSERT INTO procrastinate_jobs ({columns}) VALUES ({values})"));
    }
}

fn change_controls(connection: &mut PgConnection, model: &mut Model, random: &mut Random) {
    let target = if random.once_in(2) { ("queue", random.pick(&QUEUES)) } else { ("task", random.pick(&TASKS)) };
    let control = model.controls.entry((target.0, target.1.to_owned())).or_default();
    let of = format!("'{}', '{}'", target.0, target.1);
    let call = if random.once_in(3) {
        control.is_paused = !control.is_paused;
        if control.is_paused { format!("pause_v1({of})") } else { format!("resume_v1({of})") }
    } else {
        control.max_running = random.once_in(2).then(|| 1 + random.below(5));
        control.max_starts = random.once_in(3).then(|| 1 + random.below(9));
        let number = |limit: Option<usize>| limit.map_or("NULL".to_owned(), |limit| limit.to_string());
        let period = if control.max_starts.is_some() { "100000" } else { "NULL" };
        format!("set_limit_v1({of}, {}, {}, {period})", number(control.max_running), number(control.max_starts))
    };
    rows(connection, &format!("SELECT procrastinate_diesel_{call}"));
}

/// The jobs that a fetch must start, by ID. Counts their starts.
fn expected(connection: &mut PgConnection, model: &mut Model, queues: &str, wanted: usize) -> Vec<i64> {
    let jobs = jobs(connection);
    let running: HashSet<&String> = jobs.iter().filter(|job| job.is_running).map(|job| &job.lock).collect();
    let mut seen = HashSet::new();
    let mut rooms: HashMap<Target, usize> = model
        .controls
        .iter()
        .map(|(target, control)| {
            let count = jobs.iter().filter(|job| job.is_running && job.targets.contains(target)).count();
            let starts = model.starts.get(target).copied().unwrap_or_default();
            let limits = control
                .max_running
                .map(|most| most.saturating_sub(count))
                .into_iter()
                .chain(control.max_starts.map(|most| most.saturating_sub(starts)))
                .chain(control.is_paused.then_some(0));
            (target.clone(), limits.min().unwrap_or(usize::MAX))
        })
        .collect();
    let mut started = Vec::new();
    for job in jobs.iter().filter(|job| !job.is_running) {
        // Only the first pending job of a lock can start, and only if none is running.
        let is_free = job.lock.is_empty() || (seen.insert(&job.lock) && !running.contains(&job.lock));
        let queue = &job.targets[0].1;
        let is_wanted = queues == "NULL" || queues.trim_matches(['\'', '{', '}']).split(',').any(|name| name == queue);
        let has_room = job.targets.iter().all(|target| rooms.get(target) != Some(&0));
        if started.len() < wanted && is_free && is_wanted && has_room && job.is_due {
            started.push(job.id);
            for target in &job.targets {
                rooms.entry(target.clone()).and_modify(|room| *room -= 1);
                if model.controls.get(target).is_some_and(|control| control.max_starts.is_some()) {
                    *model.starts.entry(target.clone()).or_default() += 1;
                }
            }
        }
    }
    started.sort_unstable();
    started
}

/// The pending and running jobs, in the order in which they start.
fn jobs(connection: &mut PgConnection) -> Vec<Job> {
    let query = "SELECT id, queue_name, task_name, coalesce(lock, ''), status = 'doing',
                        coalesce(scheduled_at <= now(), true)
                 FROM procrastinate_jobs WHERE status IN ('todo', 'doing') ORDER BY priority DESC, id";
    let job = |row: String| {
        let [id, queue, task, lock, is_running, is_due]: [String; 6] =
            row.split(" | ").map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
        Job {
            id: id.parse().unwrap(),
            targets: [("queue", queue), ("task", task)],
            lock,
            is_running: is_running == "true",
            is_due: is_due == "true",
        }
    };
    rows(connection, query).into_iter().map(job).collect()
}
