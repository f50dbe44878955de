//! `worker`: runs a worker.

#[cfg(feature = "probe")]
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(feature = "probe")]
use crate::cli::commands::health::probe::Probe;
use crate::cli::terminal::environment::{or_variable, switch};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::values;
use crate::job::JobStatus;
use crate::worker::{DeleteJobs, Worker};

/// Run a worker
///
/// Options override the application's worker_defaults, which override the defaults below. The worker stops on SIGINT
/// and SIGTERM after its jobs have finished; a second signal aborts them. Intervals are in seconds, or have a unit:
/// 500ms, 5m, 2h.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  worker --queues mails,invoices --concurrency 10 --shutdown-graceful-timeout 20")]
pub(crate) struct RunWorker {
    /// The name in logs and job contexts. Default: worker [env: PROCRASTINATE_WORKER_NAME]
    #[arg(short, long)]
    name: Option<String>,

    /// The queues, separated by commas; '' for all queues. Default: all queues [env: PROCRASTINATE_WORKER_QUEUES]
    #[arg(short, long, value_name = "QUEUE,…")]
    queues: Option<String>,

    /// How many jobs run at the same time. Default: 1 [env: PROCRASTINATE_WORKER_CONCURRENCY]
    #[arg(short, long, value_name = "NUMBER", value_parser = values::concurrency)]
    concurrency: Option<usize>,

    /// How often to poll for jobs. Default: 5 [env: PROCRASTINATE_WORKER_FETCH_JOB_POLLING_INTERVAL]
    #[arg(short = 'p', long, value_name = "SECONDS", value_parser = values::duration)]
    fetch_job_polling_interval: Option<Duration>,

    /// How often to poll for abort requests while jobs run. Default: 5 [env:
    /// PROCRASTINATE_WORKER_ABORT_JOB_POLLING_INTERVAL]
    #[arg(short = 'a', long, value_name = "SECONDS", value_parser = values::duration)]
    abort_job_polling_interval: Option<Duration>,

    /// How long running jobs may continue after a signal, before they are aborted. Default: no limit [env:
    /// PROCRASTINATE_WORKER_SHUTDOWN_GRACEFUL_TIMEOUT]
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    shutdown_graceful_timeout: Option<Duration>,

    /// Keep running when no job is left (default) [env: PROCRASTINATE_WORKER_WAIT, 1/y/t or 0/n/f]
    #[arg(short, long, overrides_with = "one_shot")]
    wait: bool,

    /// Stop when no job is left
    #[arg(long, overrides_with = "wait")]
    one_shot: bool,

    /// Listen for new jobs (default) [env: PROCRASTINATE_WORKER_LISTEN_NOTIFY, 1/y/t or 0/n/f]
    #[arg(short, long, overrides_with = "no_listen_notify")]
    listen_notify: bool,

    /// Find new jobs by polling only
    #[arg(long, overrides_with = "listen_notify")]
    no_listen_notify: bool,

    /// Which finished jobs to delete: never, successful or always. Default: never [env:
    /// PROCRASTINATE_WORKER_DELETE_JOBS]
    #[arg(long, value_name = "WHICH", value_parser = values::delete_jobs)]
    delete_jobs: Option<DeleteJobs>,

    #[command(flatten)]
    beyond: Beyond,
}

/// Options that Procrastinate's command line does not have.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "More options")]
struct Beyond {
    /// Serve a queue with a concurrency of its own; may be repeated. The worker then serves these queues and those of
    /// --queues [env: PROCRASTINATE_WORKER_QUEUE_CONCURRENCY, separated by commas]
    #[arg(long, value_name = "QUEUE=NUMBER", value_parser = values::queue_concurrency)]
    queue_concurrency: Vec<(String, usize)>,

    /// Delete jobs that finished with this status when they are this old; may be repeated [env:
    /// PROCRASTINATE_WORKER_DELETE_JOBS_OLDER_THAN, separated by commas]
    #[arg(long, value_name = "STATUS=AGE", value_parser = values::retention)]
    delete_jobs_older_than: Vec<(JobStatus, Duration)>,

    /// How many more jobs to fetch ahead. Default: 0 [env: PROCRASTINATE_WORKER_LOCAL_BUFFER]
    #[arg(long, value_name = "NUMBER", value_parser = values::number)]
    local_buffer: Option<usize>,

    /// The time limit of jobs whose task has none. Default: no limit [env: PROCRASTINATE_WORKER_TIMEOUT]
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    timeout: Option<Duration>,

    /// Serve health probes, GET /live and GET /ready, on this address, such as 0.0.0.0:8080 [env:
    /// PROCRASTINATE_WORKER_HEALTH_ADDRESS]
    #[cfg(feature = "probe")]
    #[arg(long, value_name = "ADDRESS", value_parser = values::address)]
    health_address: Option<SocketAddr>,

    /// How often to send a heartbeat. Default: 10 [env: PROCRASTINATE_WORKER_UPDATE_HEARTBEAT_INTERVAL]
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    update_heartbeat_interval: Option<Duration>,

    /// After how long without a heartbeat another worker is considered stalled. Default: 30 [env:
    /// PROCRASTINATE_WORKER_STALLED_WORKER_TIMEOUT]
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    stalled_worker_timeout: Option<Duration>,
}

/// Applies the options that are set by a flag or a variable.
macro_rules! set {
    ($worker:ident, $options:expr, $($name:ident: $parse:path, $variable:literal;)+) => {$(
        if let Some(value) = or_variable($options.$name, concat!("PROCRASTINATE_WORKER_", $variable), $parse)? {
            $worker = $worker.$name(value);
        }
    )+};
}

impl RunWorker {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        if !session.has_tasks {
            return Err(Failure::usage(
                "could not run a worker: this program has no tasks. Use your application's worker instead: in \
                 Rust procrastinate::cli mounts this command in its program, in Python it is `procrastinate --app=… \
                 worker`",
            ));
        }
        #[cfg(feature = "probe")]
        let health_address =
            or_variable(self.beyond.health_address, "PROCRASTINATE_WORKER_HEALTH_ADDRESS", values::address)?;
        let (worker, queues) = self.configure(session.app.worker())?;
        session.output.note(format!("Launching a worker on {queues}"));
        if !tracing::dispatcher::has_been_set() {
            session.output.note(
                "This program shows no log, because it has no tracing subscriber. Set one up, for example with \
                 tracing_subscriber::fmt::init()",
            );
        }
        session.output.flush()?;
        tracing::debug!(action = "configure_worker", "configured {worker:?}");
        // Dropping this set stops the probe after the worker has ended.
        #[cfg(feature = "probe")]
        let mut side_tasks = tokio::task::JoinSet::new();
        #[cfg(feature = "probe")]
        if let Some(address) = health_address {
            let probe = Probe::bind(address, session.app.clone(), &worker).await?;
            session.output.note(format!("Serving health probes on http://{}/live and /ready", probe.address()?));
            side_tasks.spawn(probe.serve());
        }
        Ok(worker.run().await?)
    }

    /// Configures the worker. Returns it with a description of its queues.
    fn configure(self, mut worker: Worker) -> Result<(Worker, String), Failure> {
        // An empty flag means all queues. An empty variable counts as not set.
        if let Some(queues) = or_variable(self.queues, "PROCRASTINATE_WORKER_QUEUES", values::text)? {
            let queues = values::queues(&queues).map_err(Failure::Usage)?;
            if queues.is_empty() && !self.beyond.queue_concurrency.is_empty() {
                return Err(Failure::usage(
                    "--queues '' means all queues and cannot be combined with --queue-concurrency",
                ));
            }
            worker = if queues.is_empty() { worker.all_queues() } else { worker.queues(queues) };
        }
        if let Some(wait) = switch(self.wait, self.one_shot, "PROCRASTINATE_WORKER_WAIT")? {
            worker = if wait { worker.keep_running() } else { worker.stop_when_empty() };
        }
        let listens = switch(self.listen_notify, self.no_listen_notify, "PROCRASTINATE_WORKER_LISTEN_NOTIFY")?;
        if let Some(listen_notify) = listens {
            worker = worker.listen_notify(listen_notify);
        }
        set! { worker, self,
            name: values::text, "NAME";
            concurrency: values::concurrency, "CONCURRENCY";
            fetch_job_polling_interval: values::duration, "FETCH_JOB_POLLING_INTERVAL";
            abort_job_polling_interval: values::duration, "ABORT_JOB_POLLING_INTERVAL";
            shutdown_graceful_timeout: values::duration, "SHUTDOWN_GRACEFUL_TIMEOUT";
            delete_jobs: values::delete_jobs, "DELETE_JOBS";
        }
        worker = self.beyond.configure(worker)?;
        let queues = worker.describe_queues();
        Ok((worker, queues))
    }
}

impl Beyond {
    fn configure(self, mut worker: Worker) -> Result<Worker, Failure> {
        set! { worker, self,
            local_buffer: values::number, "LOCAL_BUFFER";
            timeout: values::duration, "TIMEOUT";
            update_heartbeat_interval: values::duration, "UPDATE_HEARTBEAT_INTERVAL";
            stalled_worker_timeout: values::duration, "STALLED_WORKER_TIMEOUT";
        }
        let variable = "PROCRASTINATE_WORKER_QUEUE_CONCURRENCY";
        for (queue, concurrency) in or_list(self.queue_concurrency, variable, values::queue_concurrency)? {
            worker = worker.queue(queue, concurrency);
        }
        let variable = "PROCRASTINATE_WORKER_DELETE_JOBS_OLDER_THAN";
        for (status, age) in or_list(self.delete_jobs_older_than, variable, values::retention)? {
            worker = worker.delete_jobs_older_than(status, age);
        }
        Ok(worker)
    }
}

/// Returns the values of a repeated flag, or else those of a variable, which are separated by commas.
fn or_list<T>(given: Vec<T>, variable: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Failure> {
    let given = Some(given).filter(|given| !given.is_empty());
    let values = or_variable(given, variable, |text| text.split(',').map(|one| parse(one.trim())).collect())?;
    Ok(values.unwrap_or_default())
}
