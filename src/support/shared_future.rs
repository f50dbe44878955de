//! A future for which several tasks wait, and which each of them drives.
//!
//! It needs no task of its own. As long as one of the waiting tasks is polled, it makes progress. So a waiter that is
//! dropped, or that is not polled any more, delays no other. `Shared` of the crate `futures-util` lacks that: a waiter
//! that is woken while another one polls registers and returns, and is not woken again if the other one is dropped.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// One waiter of a shared future. It is ready when the future has ended or panicked.
pub(crate) struct SharedFuture {
    shared: Arc<Shared>,
    key: u64,
}

/// A reference to a shared future, which does not keep it alive: it is dropped with the last of its waiters.
#[derive(Default)]
pub(crate) struct WeakSharedFuture(Weak<Shared>);

struct Shared {
    /// `None` once it has ended.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    has_ended: AtomicBool,
    waiters: Arc<Waiters>,
}

impl SharedFuture {
    pub(crate) fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        let future = AssertUnwindSafe(future).catch_unwind().map(|_| ()).boxed();
        let (future, has_ended) = (Mutex::new(Some(future)), AtomicBool::new(false));
        Self::of(Arc::new(Shared { future, has_ended, waiters: Arc::default() }))
    }

    fn of(shared: Arc<Shared>) -> Self {
        let key = shared.waiters.enter();
        Self { shared, key }
    }

    pub(crate) fn downgrade(&self) -> WeakSharedFuture {
        WeakSharedFuture(Arc::downgrade(&self.shared))
    }
}

impl WeakSharedFuture {
    /// Another waiter, unless the future has ended or all of its waiters are gone.
    pub(crate) fn upgrade(&self) -> Option<SharedFuture> {
        self.0.upgrade().filter(|shared| !shared.has_ended.load(Ordering::Acquire)).map(SharedFuture::of)
    }
}

impl Future for SharedFuture {
    type Output = ();

    /// Polls the future for all waiters. It waits while another thread does the same, which takes microseconds.
    ///
    /// It must not return instead. The other thread may have polled before the event that woke this waiter.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waiters = &self.shared.waiters;
        waiters.register(self.key, context.waker());
        let mut running = lock(&self.shared.future);
        let Some(future) = running.as_mut() else { return Poll::Ready(()) };
        let waker = Waker::from(waiters.clone());
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            return Poll::Pending;
        }
        *running = None;
        self.shared.has_ended.store(true, Ordering::Release);
        drop(running);
        waiters.wake_by_ref();
        Poll::Ready(())
    }
}

impl Drop for SharedFuture {
    fn drop(&mut self) {
        self.shared.waiters.leave(self.key);
    }
}

/// The tasks to wake when the future can make progress.
#[derive(Default)]
struct Waiters(Mutex<WaitersByKey>);

#[derive(Default)]
struct WaitersByKey {
    last_key: u64,
    wakers: HashMap<u64, Waker>,
}

impl Waiters {
    fn enter(&self) -> u64 {
        let mut waiters = lock(&self.0);
        waiters.last_key += 1;
        waiters.last_key
    }

    fn register(&self, key: u64, waker: &Waker) {
        // A waker is dropped without the lock, because it may drop other waiters.
        let _former = lock(&self.0).wakers.insert(key, waker.clone());
    }

    fn leave(&self, key: u64) {
        let _waker = lock(&self.0).wakers.remove(&key);
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut lock(&self.0).wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

/// Locks the mutex. Code that holds these locks does not panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    /// A future that ends when something is sent, and counts how often it has ended.
    fn until_sent() -> (oneshot::Sender<()>, Arc<AtomicUsize>, SharedFuture) {
        let (sender, receiver) = oneshot::channel();
        let ended = Arc::new(AtomicUsize::new(0));
        let counted = ended.clone();
        let future = SharedFuture::new(async move {
            let _ = receiver.await;
            counted.fetch_add(1, Ordering::SeqCst);
        });
        (sender, ended, future)
    }

    #[tokio::test]
    async fn it_ends_once_for_all_of_its_waiters() {
        let (sender, ended, first) = until_sent();
        let others: Vec<_> = (0..5).map(|_| tokio::spawn(first.downgrade().upgrade().unwrap())).collect();
        tokio::task::yield_now().await;
        sender.send(()).unwrap();
        first.await;
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn it_has_no_more_waiters_once_it_has_ended() {
        let (sender, _, first) = until_sent();
        let (late, weak) = (first.downgrade().upgrade().unwrap(), first.downgrade());
        sender.send(()).unwrap();
        first.await;
        assert!(weak.upgrade().is_none());
        late.await;
    }

    #[tokio::test]
    async fn it_continues_when_the_waiter_that_has_driven_it_is_dropped_or_never_polled_again() {
        for is_dropped in [true, false] {
            let (sender, _, mut first) = until_sent();
            let second = first.downgrade().upgrade().unwrap();
            assert_eq!((&mut first).now_or_never(), None);
            let second = tokio::spawn(second);
            tokio::task::yield_now().await;
            sender.send(()).unwrap();
            let never_polled_again = (!is_dropped).then_some(first);
            second.await.unwrap();
            drop(never_polled_again);
        }
    }

    #[tokio::test]
    async fn a_waiter_that_comes_after_the_event_drives_it_too() {
        let (sender, _, mut first) = until_sent();
        assert_eq!((&mut first).now_or_never(), None);
        sender.send(()).unwrap();
        first.downgrade().upgrade().unwrap().await;
    }

    #[test]
    fn it_is_dropped_with_its_last_waiter() {
        let (sender, ended, first) = until_sent();
        let weak = first.downgrade();
        drop((weak.upgrade(), first));
        assert!(weak.upgrade().is_none());
        assert!(sender.is_closed());
        assert_eq!(ended.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn its_panic_ends_it_for_all_waiters() {
        let future = SharedFuture::new(async { panic!("a bug") });
        let other = future.downgrade().upgrade().unwrap();
        future.await;
        other.await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_wake_up_is_lost_while_waiters_are_aborted_on_other_threads() {
        for _ in 0..300 {
            let (sender, _, first) = until_sent();
            let last = tokio::spawn(first.downgrade().upgrade().unwrap());
            let aborted: Vec<_> = (0..4).map(|_| tokio::spawn(first.downgrade().upgrade().unwrap())).collect();
            drop(first);
            let sending = tokio::spawn(async move { sender.send(()) });
            aborted.iter().for_each(tokio::task::JoinHandle::abort);
            sending.await.unwrap().unwrap();
            last.await.unwrap();
        }
    }
}
