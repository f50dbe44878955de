//! The life of a worker: register, loop, unregister.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

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
use crate::worker::event_loop::{Loop, Signs};
use crate::worker::executor::Surroundings;
use crate::worker::heartbeat::{Lifeline, Settings};
use crate::worker::periodic::defer_periodic_jobs;
use crate::worker::rescuer::Rescuer;
use crate::worker::retention::keep_house;
use crate::worker::settings::Options;
use crate::worker::signals::heed_signals;

/// Runs a worker until it is stopped, or until there is no job left where it is not to wait.
pub(super) async fn run(
    app: App,
    options: Options,
    handle: WorkerHandle,
    shutdown: BoxFuture<'static, ()>,
) -> Result<(), Error> {
    panics::note_places();
    let connector = app.connector().clone();
    let mut rescuer = Rescuer::new(app.clone(), options.stalled_worker_timeout);
    // A worker that does not wait has no time for a second look.
    rescuer.look(!options.wait).await?;
    let worker_id = enter(&connector, &options).await?;

    let (worker_ids, current_worker_id) = watch::channel(worker_id);
    let (report_sender, reports) = mpsc::unbounded_channel();
    let wake = Arc::new(Notify::new());
    let is_busy = Arc::new(AtomicBool::new(false));
    let lifeline = Lifeline::start(Settings {
        connector: connector.clone(),
        channels: (options.listen_notify && options.wait).then(|| channels(options.queues.as_deref())),
        update_heartbeat_interval: options.update_heartbeat_interval,
        abort_job_polling_interval: options.abort_job_polling_interval,
        worker_id: current_worker_id,
        is_busy: is_busy.clone(),
        wake: wake.clone(),
        reports: report_sender,
    });
    let lifeline = match lifeline.await {
        Ok(lifeline) => lifeline,
        Err(source) => {
            leave(&connector, worker_id).await;
            return Err(Error::Thread { source });
        }
    };

    // The side tasks end when this set is dropped, at the latest when this future is.
    let mut side_tasks = JoinSet::new();
    side_tasks.spawn(stop_when_ready(shutdown, handle.clone()));
    if options.install_signal_handlers {
        side_tasks.spawn(heed_signals(handle.clone()));
    }
    side_tasks.spawn(keep_house(connector.clone(), options.retention.clone()));
    let (first_turn, is_turned) = oneshot::channel();
    side_tasks.spawn(defer_periodic_jobs(app.clone(), first_turn));
    if options.wait {
        side_tasks.spawn(rescuer.run(options.update_heartbeat_interval, wake.clone()));
    } else {
        // What is due now belongs to what such a worker does.
        let _ = is_turned.await;
    }

    let slots = Slots::new(surroundings(&app, &options, &handle), options.concurrency, options.local_buffer);
    let signs = Signs { handle, wake, reports, worker_ids, is_busy };
    let mut worker = Loop::new(connector.clone(), options, slots, signs);
    let result = worker.run().await;
    let worker_id = worker.worker_id();
    // Both may hold a connection of the pool's, and it may have one only.
    drop(worker);
    side_tasks.shutdown().await;
    lifeline.end().await;
    leave(&connector, worker_id).await;
    result
}

async fn stop_when_ready(shutdown: BoxFuture<'static, ()>, handle: WorkerHandle) {
    shutdown.await;
    handle.stop();
}

pub(super) fn surroundings(app: &App, options: &Options, handle: &WorkerHandle) -> Surroundings {
    Surroundings {
        app: app.clone(),
        worker: WorkerOfJob { name: options.name.clone(), queues: options.queues.clone(), handle: handle.clone() },
        state: app.state().overridden_by(&options.state),
        timeout: options.timeout,
        worker_middleware: options.worker_middleware.clone().into(),
        task_middleware: options.task_middleware.clone().into(),
    }
}

async fn enter(connector: &Connector, options: &Options) -> Result<i64, Error> {
    let mut connection = connector.get("register the worker").await?;
    let worker_id = register_worker().execute_pooled(&mut connection).await?;
    tracing::info!(
        action = "start_worker",
        worker.id = worker_id,
        worker.name = %options.name,
        worker.queues = ?options.queues,
        "started worker {worker_id} ({})", options.name,
    );
    Ok(worker_id)
}

async fn leave(connector: &Connector, worker_id: i64) {
    let left = async {
        let mut connection = connector.get("unregister the worker").await?;
        unregister_worker(worker_id).execute_pooled(&mut connection).await
    };
    match left.await {
        Ok(()) => tracing::info!(action = "stop_worker", worker.id = worker_id, "stopped worker {worker_id}"),
        Err(error) => tracing::warn!(
            action = "stop_worker",
            worker.id = worker_id,
            "stopped worker {worker_id}, which stays registered until it is found stalled: {error}",
        ),
    }
}
