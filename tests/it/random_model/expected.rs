//! What each statement must return, and what it makes of the model.

use super::calls::{By, Call, Ending, Outcome, Rescue};
use super::model::{Age, Heartbeat, Job, Model, NewJob, Refused, Schedule};
use super::tables::ERRORS;

/// What becomes of a scheduled time that is NULL: the crate's functions make it the present.
fn present_if_null(retry: super::model::Retry) -> super::model::Retry {
    let at = if retry.at == Schedule::AtOnce { Schedule::Present } else { retry.at };
    super::model::Retry { at, ..retry }
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or("NULL".to_owned(), |value| value.to_string())
}

/// The IDs that the database has drawn.
fn ids(found: &[String]) -> Vec<i64> {
    found.iter().filter_map(|row| row.split(' ').next().unwrap_or_default().parse().ok()).collect()
}

impl Model {
    /// Does what the statement does, and returns its rows in any order. IDs that the database draws are read from the
    /// rows that were found.
    pub fn expect(&mut self, call: &Call, found: &[String]) -> Result<Vec<String>, Refused> {
        match call {
            Call::Defer(job) => {
                let is_taken = self.is_enqueued(job.queueing_lock);
                let deferred = if is_taken { Vec::new() } else { self.insert_all("walk", &[*job], found)? };
                Ok(deferred)
            }
            Call::DeferJobs(by, jobs) => self.defer_jobs(*by, jobs, found),
            Call::DeferEach(jobs) => self.defer_each(jobs, found),
            Call::DeferOrReplace(choice, jobs) => self.defer_or_replace(choice, jobs, found),
            Call::Tick { by, periodic_id, tick, lock, queueing_lock } => {
                self.tick(*by, (periodic_id, *tick), *lock, *queueing_lock, found)
            }
            Call::Fetch { worker, queues } => {
                let id = self.fetch_all(queues.as_deref(), *worker, 1)?;
                Ok(vec![or_null(id.first())])
            }
            Call::FinishAndFetch { worker, outcomes, queues, slots, one_by_one: _ } => {
                let mut rows = self.finish_outcomes(*worker, outcomes)?;
                let fetched = self.fetch_all(queues.as_deref(), *worker, *slots)?;
                rows.extend(fetched.iter().map(|id| format!("fetched | {id}")));
                Ok(rows)
            }
            Call::Finish { by, id, status, delete } => self.finish_by(*by, *id, status, *delete),
            Call::Cancel { id, abort, delete } => Ok(vec![or_null(self.cancel(*id, *abort, *delete))]),
            Call::Retry { version: Some(version), id, retry } => {
                self.retry(*id, *retry, *version == 2)?;
                Ok(Vec::new())
            }
            Call::Retry { version: None, id, retry } => Ok(vec![self.retry_by_crate(*id, *retry)]),
            Call::Rescue(rescues) => Ok(self.rescue_all(rescues)),
            Call::DeleteOld { statuses, queue } => Ok(vec![self.delete_old(statuses, *queue)]),
            Call::Reschedule { id, at } => Ok(vec![self.change_if(
                *id,
                |job| job.status == "todo",
                |model, id| model.jobs.get_mut(&id).unwrap().reschedule(*at),
            )]),
            Call::DeleteJob { id } => Ok(vec![self.change_if(*id, |job| job.status != "doing", Self::delete)]),
            Call::Age => {
                for (_, age) in self.jobs.values_mut().flat_map(|job| &mut job.events) {
                    *age = if *age == Age::Future { Age::Future } else { Age::Old };
                }
                Ok(Vec::new())
            }
            _ => self.expect_of_workers(call, found),
        }
    }

    fn expect_of_workers(&mut self, call: &Call, found: &[String]) -> Result<Vec<String>, Refused> {
        Ok(match call {
            Call::Register => {
                let id = *ids(found).first().ok_or(Refused)?;
                assert!(!self.workers.contains_key(&id), "worker {id} was registered before");
                self.workers.insert(id, Heartbeat::Fresh);
                vec![id.to_string()]
            }
            Call::DrawId => found.to_vec(),
            Call::Unregister { by: By::Contract, worker } => {
                self.workers.remove(worker);
                self.unlink_worker(*worker);
                Vec::new()
            }
            Call::Unregister { by: By::Crate, worker } => {
                self.release(*worker);
                self.workers.entry(*worker).and_modify(|heartbeat| *heartbeat = Heartbeat::Released);
                vec![self.remove_worker(*worker)]
            }
            Call::RemoveWorker { worker } => vec![self.remove_worker(*worker)],
            Call::Heartbeat { by, worker } => {
                let heartbeat = self.workers.get_mut(worker);
                let beats = heartbeat.filter(|heartbeat| **heartbeat != Heartbeat::Released || *by == By::Contract);
                let is_registered = beats.map(|heartbeat| *heartbeat = Heartbeat::Fresh).is_some();
                let workers = if is_registered { self.workers.len() } else { 0 };
                if *by == By::Contract { Vec::new() } else { vec![workers.to_string()] }
            }
            Call::Silence { worker } => {
                let heartbeat = self.workers.get_mut(worker).filter(|heartbeat| **heartbeat == Heartbeat::Fresh);
                heartbeat.into_iter().for_each(|heartbeat| *heartbeat = Heartbeat::Stalled);
                Vec::new()
            }
            Call::Prune => {
                let stalled = self.stalled();
                for worker in &stalled {
                    self.workers.remove(worker);
                    self.unlink_worker(*worker);
                }
                stalled.iter().map(ToString::to_string).collect()
            }
            Call::ReleaseStalled => {
                let stalled = self.stalled();
                let release = |worker: i64| {
                    self.release(worker);
                    let former = self.workers.insert(worker, Heartbeat::Released);
                    format!("{worker} | {} | NULL", former == Some(Heartbeat::Stalled))
                };
                stalled.into_iter().map(release).collect()
            }
            Call::Reregister { former, new, jobs } => self.reregister(*former, *new, jobs),
            _ => self.expect_of_reads(call)?,
        })
    }

    /// What is read of running jobs.
    fn expect_of_reads(&self, call: &Call) -> Result<Vec<String>, Refused> {
        Ok(match call {
            Call::HeldJobs { worker } => {
                if self.workers.get(worker).is_none_or(|heartbeat| *heartbeat == Heartbeat::Released) {
                    return Err(Refused);
                }
                let held = self.jobs.iter().filter(|(_, job)| job.is_held_by(Some(*worker)));
                held.map(|(id, job)| format!("{id} | {} | {}", job.attempts, job.abort_requested)).collect()
            }
            Call::JobsOfWorker { worker, ids } => {
                let held = |id: &&i64| self.jobs.get(id).is_some_and(|job| job.is_held_by(Some(*worker)));
                let mut held: Vec<i64> = ids.iter().filter(held).copied().collect();
                held.sort_unstable();
                held.dedup();
                held.iter().map(ToString::to_string).collect()
            }
            _ => {
                let lost = self.jobs.iter().filter(|(_, job)| job.is_held_by(None));
                lost.map(|(id, _)| id.to_string()).collect()
            }
        })
    }

    /// The workers without a recent heartbeat.
    fn stalled(&self) -> Vec<i64> {
        self.workers.iter().filter(|(_, heartbeat)| **heartbeat != Heartbeat::Fresh).map(|(id, _)| *id).collect()
    }

    fn insert_all(&mut self, task: &'static str, jobs: &[NewJob], found: &[String]) -> Result<Vec<String>, Refused> {
        let new = ids(found);
        if new.len() != jobs.len() {
            return Err(Refused);
        }
        for (id, job) in new.iter().zip(jobs) {
            let last = self.jobs.last_key_value().map_or(0, |(id, _)| *id);
            assert!(*id > last, "job {id} came after job {last}");
            self.insert_of(task, *id, *job);
        }
        Ok(new.iter().map(ToString::to_string).collect())
    }

    fn defer_each(&mut self, jobs: &[NewJob], found: &[String]) -> Result<Vec<String>, Refused> {
        let mut rows = Vec::new();
        for (job, id) in jobs.iter().zip(found) {
            let is_taken = self.is_enqueued(job.queueing_lock);
            let inserted = if is_taken {
                vec!["NULL".to_owned()]
            } else {
                self.insert_all("walk", &[*job], std::slice::from_ref(id))?
            };
            rows.extend(inserted);
        }
        Ok(rows)
    }

    fn defer_or_replace(&mut self, choice: &str, jobs: &[NewJob], found: &[String]) -> Result<Vec<String>, Refused> {
        let mut rows = Vec::new();
        for (new, row) in jobs.iter().zip(found) {
            let pending = self.jobs.iter_mut().find(|(_, job)| {
                job.status == "todo" && new.queueing_lock.is_some() && job.new.queueing_lock == new.queueing_lock
            });
            let Some((id, job)) = pending else {
                let inserted = self.insert_all("walk", &[*new], std::slice::from_ref(row))?;
                rows.extend(inserted.iter().map(|id| format!("{id} | new")));
                continue;
            };
            if choice != "keep" {
                job.replace("walk", *new, choice == "replace_except_schedule");
            }
            rows.push(format!("{id} | {}", if choice == "keep" { "kept" } else { "replaced" }));
        }
        Ok(rows)
    }

    fn defer_jobs(&mut self, by: By, jobs: &[NewJob], found: &[String]) -> Result<Vec<String>, Refused> {
        let is_taken = |(place, job): (usize, &NewJob)| {
            let twice = jobs[..place].iter().any(|other| other.queueing_lock == job.queueing_lock);
            self.is_enqueued(job.queueing_lock) || (twice && job.queueing_lock.is_some())
        };
        let taken: Vec<&NewJob> = jobs.iter().enumerate().filter(|job| is_taken(*job)).map(|(_, job)| job).collect();
        if taken.is_empty() {
            let inserted = self.insert_all("walk", jobs, found)?;
            let row = |id: String| if by == By::Crate { format!("{id} | NULL") } else { id };
            return Ok(inserted.into_iter().map(row).collect());
        }
        if by == By::Contract {
            return Err(Refused);
        }
        // Jobs are inserted in the order of their locks.
        let first = taken.iter().filter_map(|job| job.queueing_lock).min();
        Ok(vec![format!("NULL | {}", first.unwrap_or_default())])
    }

    fn tick(
        &mut self,
        by: By,
        tick: (&'static str, i64),
        lock: Option<&'static str>,
        queueing_lock: Option<&'static str>,
        found: &[String],
    ) -> Result<Vec<String>, Refused> {
        let row = |id: &str, taken: bool| if by == By::Crate { format!("{id} | {taken}") } else { id.to_owned() };
        let is_later = self.ticks.keys().any(|other| other.0 == tick.0 && other.1 > tick.1);
        if self.ticks.contains_key(&tick) || (is_later && by == By::Crate) {
            return Ok(vec![row("NULL", false)]);
        }
        if self.is_enqueued(queueing_lock) {
            return if by == By::Crate { Ok(vec![row("NULL", true)]) } else { Err(Refused) };
        }
        let job = NewJob { queue: "a", priority: 0, lock, queueing_lock, schedule: Schedule::AtOnce };
        let inserted = self.insert_all("tick", &[job], found)?;
        self.ticks.retain(|other, _| other.0 != tick.0 || other.1 > tick.1);
        self.ticks.insert(tick, inserted[0].parse().ok());
        Ok(vec![row(&inserted[0], false)])
    }

    /// Fetches so many jobs. A worker that is not registered violates the foreign key.
    fn fetch_all(&mut self, queues: Option<&[&str]>, worker: i64, slots: usize) -> Result<Vec<i64>, Refused> {
        let fetched: Vec<i64> = (0..slots).map_while(|_| self.fetch(queues, worker)).collect();
        if fetched.is_empty() || self.workers.contains_key(&worker) { Ok(fetched) } else { Err(Refused) }
    }

    fn finish_outcomes(&mut self, worker: i64, outcomes: &[Outcome]) -> Result<Vec<String>, Refused> {
        for Outcome { id, attempts, ending } in outcomes {
            let (Ending::Finish { with_error, .. } | Ending::Retry { with_error, .. }) = ending else { continue };
            if *with_error && self.holds(worker, *id, *attempts) {
                let job = self.jobs.get_mut(id).unwrap();
                job.errors.entry(job.attempts + 1).or_insert(ERRORS[0]);
            }
        }
        let mut rows = Vec::new();
        let mut outcomes = outcomes.to_vec();
        outcomes.sort_by_key(|outcome| outcome.id);
        for Outcome { id, attempts, ending } in outcomes {
            let is_held = self.holds(worker, id, attempts);
            let is_lost = match ending {
                Ending::Finish { status, .. } if is_held => {
                    self.finish(id, status, false)?;
                    self.jobs.get_mut(&id).unwrap().worker = None;
                    false
                }
                Ending::Finish { status, .. } => !self.jobs.get(&id).is_some_and(|job| {
                    job.status == status
                        && job.worker.is_none_or(|other| other == worker)
                        && attempts.is_none_or(|attempts| job.attempts == attempts + 1)
                }),
                Ending::Delete if is_held => {
                    self.delete(id);
                    false
                }
                Ending::Delete => self.jobs.contains_key(&id),
                Ending::Retry { retry, counts, is_deleted_if_failed, .. } => {
                    let became =
                        self.requeue(id, Some(worker), attempts, present_if_null(retry), counts.unwrap_or(true));
                    if became == Some("failed") {
                        rows.push(format!("failed | {id}"));
                        if is_deleted_if_failed {
                            self.delete(id);
                        }
                    }
                    became.is_none()
                        && self.jobs.get(&id).is_some_and(|job| {
                            job.status == "doing"
                                && (job.worker != Some(worker)
                                    || attempts.is_some_and(|attempts| job.attempts <= attempts))
                        })
                }
            };
            if is_lost {
                rows.push(format!("lost | {id}"));
            }
        }
        let is_registered = self.workers.get(&worker).is_some_and(|heartbeat| *heartbeat != Heartbeat::Released);
        let is_any_lost = rows.iter().any(|row| row.starts_with("lost"));
        if is_any_lost && !is_registered { Err(Refused) } else { Ok(rows) }
    }

    fn holds(&self, worker: i64, id: i64, attempts: Option<i32>) -> bool {
        self.jobs
            .get(&id)
            .is_some_and(|job| job.is_held_by(Some(worker)) && attempts.is_none_or(|attempts| job.attempts == attempts))
    }

    fn finish_by(&mut self, by: By, id: i64, status: &'static str, delete: bool) -> Result<Vec<String>, Refused> {
        let found = self.jobs.get(&id).map(|job| job.status);
        let is_finished = matches!(found, Some("todo" | "doing"));
        if by == By::Contract {
            self.finish(id, status, delete)?;
            return Ok(Vec::new());
        }
        if is_finished {
            self.finish(id, status, delete)?;
        }
        Ok(vec![format!("{is_finished} | {}", or_null(found))])
    }

    fn retry_by_crate(&mut self, id: i64, retry: super::model::Retry) -> String {
        let Some(before) = self.jobs.get(&id).cloned() else {
            return "NULL | NULL | NULL | NULL".to_owned();
        };
        let became = self.retry(id, present_if_null(retry), true).ok().map(|()| self.jobs[&id].status);
        let is_retryable = matches!(before.status, "doing" | "failed");
        let taken = before.new.queueing_lock.filter(|_| is_retryable && became.is_none());
        format!("{} | {} | {} | {}", before.status, or_null(became), or_null(taken), before.task)
    }

    fn rescue_all(&mut self, rescues: &[Rescue]) -> Vec<String> {
        let mut rescues = rescues.to_vec();
        rescues.sort_by_key(|rescue| rescue.id);
        let mut rows = Vec::new();
        for Rescue { id, attempts, retry } in rescues {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            if !job.is_held_by(None) || job.attempts != attempts {
                continue;
            }
            job.errors.entry(attempts + 1).or_insert(ERRORS[1]);
            let became = match retry {
                Some(retry) if !job.abort_requested => {
                    self.requeue(id, None, Some(attempts), present_if_null(retry), true)
                }
                _ => {
                    let status = if job.abort_requested { "aborted" } else { "failed" };
                    self.finish(id, status, false).ok().map(|()| status)
                }
            };
            rows.push(format!("{id} | {} | NULL", or_null(became)));
        }
        rows
    }

    fn delete_old(&mut self, statuses: &[&str], queue: Option<&str>) -> String {
        let is_old = |job: &Job| {
            job.is_final()
                && statuses.contains(&job.status)
                && queue.is_none_or(|queue| job.new.queue == queue)
                && job.events.iter().all(|(_, age)| *age == Age::Old)
        };
        let old: Vec<i64> = self.jobs.iter().filter(|(_, job)| is_old(job)).map(|(id, _)| *id).collect();
        old.iter().for_each(|id| self.delete(*id));
        format!("{} | false", old.len())
    }

    fn change_if(&mut self, id: i64, can: fn(&Job) -> bool, change: impl FnOnce(&mut Self, i64)) -> String {
        match self.jobs.get(&id) {
            None => "not found".to_owned(),
            Some(job) if !can(job) => job.status.to_owned(),
            Some(_) => {
                change(self, id);
                "changed".to_owned()
            }
        }
    }

    fn remove_worker(&mut self, worker: i64) -> String {
        if self.workers.get(&worker) != Some(&Heartbeat::Released) {
            return "true | 0".to_owned();
        }
        let unlinked = self.unlink_worker(worker);
        self.workers.remove(&worker);
        format!("true | {unlinked}")
    }

    fn reregister(&mut self, former: i64, new: i64, jobs: &[(i64, i32)]) -> Vec<String> {
        let heartbeat = self.workers.entry(new).or_insert(Heartbeat::Fresh);
        if *heartbeat == Heartbeat::Stalled {
            *heartbeat = Heartbeat::Fresh;
        }
        for job in self.jobs.values_mut().filter(|job| job.is_held_by(Some(former))) {
            job.worker = Some(new);
        }
        self.workers.remove(&former);
        self.unlink_worker(former);
        for (id, attempts) in jobs {
            if let Some(job) = self.jobs.get_mut(id).filter(|job| job.is_held_by(None) && job.attempts == *attempts) {
                job.worker = Some(new);
            }
        }
        let held = self.jobs.iter().filter(|(_, job)| job.is_held_by(Some(new)));
        held.map(|(id, job)| format!("{id} | {}", job.attempts)).collect()
    }
}
