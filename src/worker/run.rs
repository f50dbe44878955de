//! The life of a worker: register, loop, unregister.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::database::connection::Connector;
use crate::database::connection::run::Run;
use crate::database::notification::{SCHEDULES_CHANNEL, channels};
use crate::database::statements::workers::{ReleaseWorker, RemoveWorker};
use crate::error::Error;
use crate::queue::job_manager::register_worker;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::listener::ANSWER_TIMEOUT;
use crate::support::panics;
use crate::task::context::WorkerOfJob;
use crate::task::worker_handle::WorkerHandle;
use crate::worker::event_loop::slots::Slots;
use crate::worker::event_loop::{EventLoop, LoopHandles};
use crate::worker::executor::JobEnvironment;
use crate::worker::fetch_signal::FetchSignal;
use crate::worker::heartbeat::{HeartbeatSettings, HeartbeatThread};
use crate::worker::settings::Settings;
use crate::worker::side_tasks::ageing::Ageing;
use crate::worker::side_tasks::periodic::{PeriodicTasks, ScheduleSignal};
use crate::worker::side_tasks::rescuer::Rescuer;
use crate::worker::side_tasks::retention::Retention;
use crate::worker::side_tasks::signals::SignalHandler;
use crate::worker::side_tasks::{SideTask, supervise};
use crate::worker::storage::UNLINK_SIZE;
use crate::worker::unknown_tasks::UnknownJobs;

/// How long a slow server may take to respond to a heartbeat at least.
const SHORTEST_ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Starts the side tasks that every worker has, whatever jobs it runs.
fn spawn_chores(side_tasks: &mut JoinSet<()>, connector: &Connector, settings: &Settings) {
    side_tasks.spawn(supervise(Retention::new(connector.clone(), settings)));
    side_tasks.spawn(supervise(Ageing::new(connector.clone(), settings)));
}

/// Runs a worker until it is stopped, or until there is no job left to start if `stop_when_empty` is set.
pub(super) async fn run(
    app: App,
    settings: Settings,
    handle: WorkerHandle,
    shutdown: BoxFuture<'static, ()>,
) -> Result<(), Error> {
    panics::note_locations();
    let connector = app.connector().clone();
    let time_limit = settings.time_limit();
    let (worker_id, registered_at) = register(&connector, &settings).await?;

    let (worker_ids, current_worker_id) = watch::channel(worker_id);
    let (report_sender, reports) = mpsc::unbounded_channel();
    let groups = settings.queue_groups();
    let fetch_signal = Arc::new(FetchSignal::new(groups.len()));
    let schedule_signal = Arc::new(ScheduleSignal::default());
    let is_busy = Arc::new(AtomicBool::new(false));
    let heartbeat = HeartbeatThread::start(HeartbeatSettings {
        connector: connector.clone(),
        channels: (settings.listen_notify && settings.wait).then(|| all_channels(settings.queue_names().as_deref())),
        groups: groups.clone(),
        update_heartbeat_interval: settings.update_heartbeat_interval,
        abort_job_polling_interval: settings.abort_job_polling_interval,
        answer_limit: (settings.stalled_worker_timeout / 4).clamp(SHORTEST_ANSWER_LIMIT, ANSWER_TIMEOUT),
        worker_id: current_worker_id,
        is_busy: is_busy.clone(),
        fetch_signal: fetch_signal.clone(),
        schedule_signal: schedule_signal.clone(),
        reports: report_sender,
    });
    let heartbeat = match heartbeat.await {
        Ok(heartbeat) => heartbeat,
        Err(source) => {
            unregister(&connector, worker_id, time_limit).await;
            return Err(Error::Thread { source });
        }
    };

    // Dropping this set ends the side tasks, at the latest when this future is dropped.
    let mut side_tasks = JoinSet::new();
    side_tasks.spawn(supervise(StopWhenReady { shutdown: Some(shutdown), handle: handle.clone() }));
    if settings.install_signal_handlers {
        side_tasks.spawn(supervise(SignalHandler::install(handle.clone())));
    }
    spawn_chores(&mut side_tasks, &connector, &settings);
    let (first_turn, is_turned) = oneshot::channel();
    side_tasks.spawn(supervise(PeriodicTasks::new(&app, schedule_signal, first_turn)));
    let mut rescuer = Rescuer::new(app.clone(), &settings, fetch_signal.clone());
    if settings.wait {
        side_tasks.spawn(supervise(rescuer));
    } else {
        // Such a worker does not run long enough for a second check. It also runs the periodic tasks that are due now.
        rescuer.check_once().await;
        let _ = is_turned.await;
    }

    let lease_until = registered_at + settings.stalled_worker_timeout;
    let environment = environment(&app, &settings, &handle);
    let slots = Slots::new(environment, groups.clone(), settings.local_buffer, lease_until);
    let handles = LoopHandles { handle, fetch_signal, reports, worker_ids, is_busy };
    let mut worker = EventLoop::new(connector.clone(), settings, groups, slots, handles, lease_until);
    let result = worker.run().await;
    let worker_id = worker.worker_id();
    // Each may hold a connection of a pool that has only one.
    drop(worker);
    side_tasks.shutdown().await;
    heartbeat.end().await;
    unregister(&connector, worker_id, time_limit).await;
    result
}

/// Stops the worker when the future of the application is ready.
struct StopWhenReady {
    /// `None` if it has panicked, which also stops the worker: nothing else may do so.
    shutdown: Option<BoxFuture<'static, ()>>,
    handle: WorkerHandle,
}

impl SideTask for StopWhenReady {
    const NAME: &'static str = "the graceful shutdown";

    async fn run(&mut self) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.await;
        }
        self.handle.stop();
    }

    fn recover(&mut self) {
        self.shutdown = None;
    }
}

pub(super) fn environment(app: &App, settings: &Settings, handle: &WorkerHandle) -> JobEnvironment {
    JobEnvironment {
        app: app.clone(),
        worker: WorkerOfJob { name: settings.name.clone(), queues: settings.queue_names(), handle: handle.clone() },
        state: app.state().overridden_by(&settings.state),
        timeout: settings.timeout,
        unknown_jobs: UnknownJobs::new(settings.unknown_tasks.unwrap_or_default()),
        worker_middleware: settings.worker_middleware.clone().into(),
        task_middleware: settings.task_middleware.clone().into(),
    }
}

/// The channels for notifications about jobs of these queues, and about schedules.
fn all_channels(queues: Option<&[String]>) -> Vec<String> {
    let mut channels = channels(queues);
    channels.push(SCHEDULES_CHANNEL.to_owned());
    channels
}

/// Registers the worker. Returns its ID and when the statement was sent, after the wait for a connection.
async fn register(connector: &Connector, settings: &Settings) -> Result<(i64, Instant), Error> {
    let mut connection = connector.get_limited("register the worker", settings.time_limit()).await?;
    let sent_at = Instant::now();
    let worker_id = register_worker().execute_pooled(&mut connection).await?;
    tracing::info!(
        action = "start_worker",
        worker.id = worker_id,
        worker.name = %settings.name,
        worker.queues = settings.queue_list(),
        "started worker {worker_id} ({})", settings.name,
    );
    Ok((worker_id, sent_at))
}

async fn unregister(connector: &Connector, worker_id: i64, time_limit: Duration) {
    match timeout(time_limit, release_and_remove(connector, worker_id, time_limit)).await {
        Ok(Ok(true)) => tracing::info!(action = "stop_worker", worker.id = worker_id, "stopped worker {worker_id}"),
        Ok(Ok(false)) | Err(_) => tracing::info!(
            action = "stop_worker",
            worker.id = worker_id,
            "stopped worker {worker_id}; another worker will remove its row, because that takes long",
        ),
        Ok(Err(error)) => tracing::warn!(
            action = "stop_worker",
            worker.id = worker_id,
            "stopped worker {worker_id}, but could not unregister it; it will be pruned as stalled: {error}",
        ),
    }
}

/// Removes the worker in steps, because many jobs can refer to it. Returns whether it is removed.
async fn release_and_remove(connector: &Connector, worker_id: i64, time_limit: Duration) -> Result<bool, Error> {
    let mut connection = connector.get_limited("unregister the worker", time_limit).await?;
    let statement = ReleaseWorker { worker_id, most: UNLINK_SIZE };
    let (mut is_removed, mut unlinked) = connection.load_one(statement).await?;
    while !is_removed && unlinked > 0 {
        let statement = RemoveWorker { worker_id, most: UNLINK_SIZE };
        (is_removed, unlinked) = connection.load_one(statement).await?;
    }
    Ok(is_removed)
}
