//! The life of a worker: register, loop, unregister.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::App;
use crate::database::connection::Connector;
use crate::database::notification::channels;
use crate::error::Error;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::job_manager::{register_worker, unregister_worker};
use crate::support::panics;
use crate::task::context::WorkerOfJob;
use crate::task::worker_handle::WorkerHandle;
use crate::worker::event_loop::slots::Slots;
use crate::worker::event_loop::{EventLoop, LoopHandles};
use crate::worker::executor::JobEnvironment;
use crate::worker::heartbeat::{HeartbeatSettings, HeartbeatThread};
use crate::worker::periodic::defer_periodic_jobs;
use crate::worker::rescuer::Rescuer;
use crate::worker::retention::delete_old_jobs;
use crate::worker::settings::Settings;
use crate::worker::signals::handle_signals;

/// Runs a worker until it is stopped, or until there is no job left to start if `stop_when_empty` is set.
pub(super) async fn run(
    app: App,
    settings: Settings,
    handle: WorkerHandle,
    shutdown: BoxFuture<'static, ()>,
) -> Result<(), Error> {
    panics::note_locations();
    let connector = app.connector().clone();
    let mut rescuer = Rescuer::new(app.clone(), settings.stalled_worker_timeout);
    // A worker that stops when empty does not run long enough for a second check.
    rescuer.check(!settings.wait).await?;
    let registered_at = Instant::now();
    let worker_id = register(&connector, &settings).await?;

    let (worker_ids, current_worker_id) = watch::channel(worker_id);
    let (report_sender, reports) = mpsc::unbounded_channel();
    let wake = Arc::new(Notify::new());
    let is_busy = Arc::new(AtomicBool::new(false));
    let heartbeat = HeartbeatThread::start(HeartbeatSettings {
        connector: connector.clone(),
        channels: (settings.listen_notify && settings.wait).then(|| channels(settings.queues.as_deref())),
        update_heartbeat_interval: settings.update_heartbeat_interval,
        abort_job_polling_interval: settings.abort_job_polling_interval,
        worker_id: current_worker_id,
        is_busy: is_busy.clone(),
        wake: wake.clone(),
        reports: report_sender,
    });
    let heartbeat = match heartbeat.await {
        Ok(heartbeat) => heartbeat,
        Err(source) => {
            unregister(&connector, worker_id).await;
            return Err(Error::Thread { source });
        }
    };

    // Dropping this set ends the side tasks, at the latest when this future is dropped.
    let mut side_tasks = JoinSet::new();
    side_tasks.spawn(stop_when_ready(shutdown, handle.clone()));
    if settings.install_signal_handlers {
        side_tasks.spawn(handle_signals(handle.clone()));
    }
    side_tasks.spawn(delete_old_jobs(connector.clone(), settings.retention.clone()));
    let (first_turn, is_turned) = oneshot::channel();
    side_tasks.spawn(defer_periodic_jobs(app.clone(), first_turn));
    if settings.wait {
        side_tasks.spawn(rescuer.run(settings.update_heartbeat_interval, wake.clone()));
    } else {
        // Such a worker also runs the periodic tasks that are due now.
        let _ = is_turned.await;
    }

    let slots = Slots::new(environment(&app, &settings, &handle), settings.concurrency, settings.local_buffer);
    let handles = LoopHandles { handle, wake, reports, worker_ids, is_busy };
    let mut worker = EventLoop::new(connector.clone(), settings, slots, handles, registered_at);
    let result = worker.run().await;
    let worker_id = worker.worker_id();
    // Each may hold a connection of a pool that has only one.
    drop(worker);
    side_tasks.shutdown().await;
    heartbeat.end().await;
    unregister(&connector, worker_id).await;
    result
}

async fn stop_when_ready(shutdown: BoxFuture<'static, ()>, handle: WorkerHandle) {
    shutdown.await;
    handle.stop();
}

pub(super) fn environment(app: &App, settings: &Settings, handle: &WorkerHandle) -> JobEnvironment {
    JobEnvironment {
        app: app.clone(),
        worker: WorkerOfJob { name: settings.name.clone(), queues: settings.queues.clone(), handle: handle.clone() },
        state: app.state().overridden_by(&settings.state),
        timeout: settings.timeout,
        worker_middleware: settings.worker_middleware.clone().into(),
        task_middleware: settings.task_middleware.clone().into(),
    }
}

async fn register(connector: &Connector, settings: &Settings) -> Result<i64, Error> {
    let mut connection = connector.get("register the worker").await?;
    let worker_id = register_worker().execute_pooled(&mut connection).await?;
    tracing::info!(
        action = "start_worker",
        worker.id = worker_id,
        worker.name = %settings.name,
        worker.queues = ?settings.queues,
        "started worker {worker_id} ({})", settings.name,
    );
    Ok(worker_id)
}

async fn unregister(connector: &Connector, worker_id: i64) {
    let unregistered = async {
        let mut connection = connector.get("unregister the worker").await?;
        unregister_worker(worker_id).execute_pooled(&mut connection).await
    };
    match unregistered.await {
        Ok(()) => tracing::info!(action = "stop_worker", worker.id = worker_id, "stopped worker {worker_id}"),
        Err(error) => tracing::warn!(
            action = "stop_worker",
            worker.id = worker_id,
            "stopped worker {worker_id}, but could not unregister it; it will be pruned as stalled: {error}",
        ),
    }
}
