//! Default settings of an application's workers.

use futures_util::FutureExt;

use crate::app::App;
use crate::app::AppBuilder;
use crate::task::worker_handle::WorkerHandle;
use crate::worker::Worker;
use crate::worker::settings::Settings;

impl App {
    /// Creates a worker for this application. Configure it and call [`Worker::run`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// app.worker().queues(["mails", "invoices"]).concurrency(10).run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn worker(&self) -> Worker {
        let worker = Worker {
            app: self.clone(),
            settings: Settings::default(),
            handle: WorkerHandle::default(),
            shutdown: std::future::pending().boxed(),
        };
        match self.worker_defaults().get::<Defaults>() {
            Some(Defaults(configure)) => configure(worker),
            None => worker,
        }
    }
}

/// The application's function that configures each new worker.
struct Defaults(Box<dyn Fn(Worker) -> Worker + Send + Sync>);

impl AppBuilder {
    /// Sets the defaults for all workers of this application. Default: the built-in defaults. The settings of a single
    /// worker take precedence.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(connector: procrastinate::DieselConnector) -> Result<(), procrastinate::Error> {
    /// let app = procrastinate::App::builder(connector)
    ///     .worker_defaults(|worker| worker.concurrency(10).timeout(std::time::Duration::from_secs(600)))
    ///     .build()?;
    /// let single = app.worker().concurrency(1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn worker_defaults(mut self, configure: impl Fn(Worker) -> Worker + Send + Sync + 'static) -> Self {
        self.worker_defaults_mut().insert(Defaults(Box::new(configure)));
        self
    }
}
