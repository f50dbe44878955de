//! Python's Procrastinate as a peer: both sides on one database, which either of them made.
//!
//! Python and the package come from a virtual environment that is made on the first run. Without them these tests are
//! skipped, or fail with `PROCRASTINATE_REQUIRE_PYTHON=1`.

mod clearing;
mod cron;
mod deferring;
mod flow_control;
mod managing;
mod naming;
pub mod peer;
mod periodic;
mod tasks;
mod working;

use std::path::Path;
use std::sync::OnceLock;

use procrastinate::App;
use throwaway_postgres::{Database, Server};

use self::peer::{Python, python};
use self::tasks::{Echo, Fail, Hold, Note, Recorder};
use crate::random_model::{Functions, play_alone};
use crate::support::{self, connect, connector, empty_database};

/// A database that both sides use, and the two of them.
struct Meeting {
    database: Database,
    python: Python,
    app: App,
    /// Under this name our workers run, so that their tasks find the recorder.
    recorder: Recorder,
}

impl Meeting {
    async fn on_our_database() -> Option<Self> {
        let interpreter = python()?;
        Some(Self::on(support::database(), interpreter).await)
    }

    async fn on_an_adopted_database() -> Option<Self> {
        let interpreter = python()?;
        Some(Self::on(adopted_database(interpreter).await, interpreter).await)
    }

    async fn on(database: Database, interpreter: &'static Path) -> Self {
        let python = Python::new(interpreter, database.url());
        let recorder = Recorder::new(&database).await;
        let app = App::builder(connector(&database).await)
            .task::<Echo>()
            .task::<Fail>()
            .task::<Hold>()
            .task::<Note>()
            .build()
            .unwrap();
        Self { database, python, app, recorder }
    }

    /// A worker of ours.
    fn worker(&self) -> procrastinate::Worker {
        self.app.worker().name(self.recorder.name())
    }
}

/// A database that Python's `procrastinate schema --apply` made, and that our migrations adopted: a copy of one.
async fn adopted_database(interpreter: &'static Path) -> Database {
    static TEMPLATE: OnceLock<Database> = OnceLock::new();
    // One at a time: the others take the copy.
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let making = MAKING.lock().await;
    if TEMPLATE.get().is_none() {
        let database = empty_database();
        Python::new(interpreter, database.url()).procrastinate(&["schema", "--apply"]).await;
        adopt(&database);
        TEMPLATE.get_or_init(|| database);
    }
    drop(making);
    Server::shared().unwrap().create_database_from(TEMPLATE.get().unwrap(), "adopted").unwrap()
}

/// Runs our migrations where Python's schema is.
fn adopt(database: &Database) {
    procrastinate::migrations::run_pending_migrations(&mut connect(database), procrastinate::migrations::MIGRATIONS)
        .unwrap();
}

/// Makes two tests of each story: on a database of ours, and on one of Python's.
macro_rules! on_both_databases {
    ($($story:ident),+ $(,)?) => {
        $crate::python::on_both_databases!(in on_our_database: $($story),+);
        $crate::python::on_both_databases!(in on_an_adopted_database: $($story),+);
    };
    (in $origin:ident: $($story:ident),+) => {
        mod $origin {
            $(
                #[tokio::test]
                async fn $story() {
                    if let Some(meeting) = $crate::python::Meeting::$origin().await {
                        super::$story(meeting).await;
                    }
                }
            )+
        }
    };
}
use on_both_databases;

#[tokio::test]
async fn adoption_keeps_the_jobs_that_python_deferred_before() {
    const EVERYTHING: &str = "SELECT job.*, event.type, event.at FROM procrastinate_jobs AS job \
                              LEFT JOIN procrastinate_events AS event ON event.job_id = job.id ORDER BY event.id";
    let Some(interpreter) = python() else { return };
    let database = empty_database();
    let python = Python::new(interpreter, database.url());
    python.procrastinate(&["schema", "--apply"]).await;
    let deferred = python.ask("defer", deferring::variety()).await;
    assert_eq!(deferred.len(), deferring::variety().as_array().unwrap().len());
    let before = support::rows(&mut connect(&database), EVERYTHING);

    adopt(&database);

    assert_eq!(support::rows(&mut connect(&database), EVERYTHING), before);
    let meeting = Meeting::on(database, interpreter).await;
    meeting.worker().stop_when_empty().run().await.unwrap();
    deferring::assert_that_all_ran_but_those_of_the_future(&meeting);
}

#[tokio::test]
async fn the_functions_of_python_do_what_the_model_of_the_contract_does() {
    if let Some(meeting) = Meeting::on_an_adopted_database().await {
        play_alone(&meeting.database, Functions::OfPython, 40);
    }
}
