//! The tasks that our workers run here, and what they keep for the test to see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use diesel::sql_types::{BigInt, Bool};
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use procrastinate::{JobContext, JobId, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use throwaway_postgres::Database;
use tokio::sync::Notify;

use crate::support::pool;

/// The recorders, by the names of the workers that use them.
static RECORDERS: Mutex<BTreeMap<String, Arc<Shared>>> = Mutex::new(BTreeMap::new());

struct Shared {
    pool: Pool<AsyncPgConnection>,
    seen: Mutex<BTreeMap<JobId, Value>>,
    holding: Notify,
    released: Notify,
}

/// What the tasks of one test share with it. A task finds it by the name of its worker.
pub struct Recorder {
    name: String,
    shared: Arc<Shared>,
}

impl Recorder {
    pub async fn new(database: &Database) -> Self {
        let shared = Arc::new(Shared {
            pool: pool(database).await,
            seen: Mutex::default(),
            holding: Notify::new(),
            released: Notify::new(),
        });
        let name = database.name().to_owned();
        RECORDERS.lock().unwrap().insert(name.clone(), shared.clone());
        Self { name, shared }
    }

    fn of(context: &JobContext) -> Arc<Shared> {
        let recorder = RECORDERS.lock().unwrap().get(context.worker_name()).cloned();
        recorder.expect("the test is over")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments that [`Echo`] got, by job.
    pub fn seen(&self) -> BTreeMap<JobId, Value> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until [`Hold`] has started.
    pub async fn holding(&self) {
        self.shared.holding.notified().await;
    }

    /// Lets [`Hold`] end.
    pub fn release(&self) {
        self.shared.released.notify_one();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        RECORDERS.lock().unwrap().remove(&self.name);
    }
}

/// Takes any arguments, and keeps them.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Echo(Map<String, Value>);

impl Task for Echo {
    const NAME: &'static str = "peer.echo";
    type Output = ();

    async fn run(self, context: JobContext) {
        let seen = Recorder::of(&context).seen.lock().unwrap().insert(context.job().id, Value::Object(self.0));
        assert_eq!(seen, None, "{} ran twice", context.job());
    }
}

/// Says that it runs, and goes on until it is released.
#[derive(Serialize, Deserialize)]
pub struct Hold {}

impl Task for Hold {
    const NAME: &'static str = "peer.hold";
    type Output = ();

    async fn run(self, context: JobContext) {
        let recorder = Recorder::of(&context);
        recorder.holding.notify_one();
        recorder.released.notified().await;
    }
}

/// Fails at its first attempt.
#[derive(Serialize, Deserialize)]
pub struct Fail {}

impl Task for Fail {
    const NAME: &'static str = "peer.fail";
    type Output = Result<(), String>;

    async fn run(self, context: JobContext) -> Self::Output {
        if context.job().attempts == 0 { Err("not at once".to_owned()) } else { Ok(()) }
    }
}

/// Writes its start and its end into the table `notes`, as the task of the same name in Python does.
#[derive(Serialize, Deserialize)]
pub struct Note {}

impl Task for Note {
    const NAME: &'static str = "peer.note";
    type Output = ();

    async fn run(self, context: JobContext) {
        write_note(&context, false).await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        write_note(&context, true).await;
    }
}

async fn write_note(context: &JobContext, ended: bool) {
    let recorder = Recorder::of(context);
    let mut connection = recorder.pool.get().await.unwrap();
    diesel::sql_query("INSERT INTO notes (job_id, client, ended) VALUES ($1, 'rust', $2)")
        .bind::<BigInt, _>(i64::from(context.job().id))
        .bind::<Bool, _>(ended)
        .execute(&mut *connection)
        .await
        .unwrap();
}
