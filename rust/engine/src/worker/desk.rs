//! A worker's desk: where its thread finds its state, and others do a piece of work while the thread rests.
//!
//! Setting a call up takes half a dozen short jobs of its worker. By mail each wakes the worker's thread, and its answer
//! wakes the asking thread again; in place they cost neither. Nobody waits for the desk but its owner: if it is taken,
//! or mail is there that came before, the job goes by mail.

use super::Worker;
use crate::event::{Ended, Outcome};
use crate::message::{MediaJob, Purpose, ToWorker};
use crate::queue::{Mailbox, Outbox};
use crate::socket::Epoll;
use crate::{EngineError, LegId, LegStats};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;
use telephony_sip::Key;

/// A worker's state and its mailbox.
pub(crate) struct Desk {
    worker: Mutex<Worker>,
    mailbox: Arc<Mailbox<ToWorker>>,
}

impl Desk {
    pub(crate) fn new(worker: Worker) -> Self {
        Self { mailbox: Arc::clone(&worker.mailbox), worker: Mutex::new(worker) }
    }

    /// The work of the thread, until it is told to stop.
    pub(crate) fn run(&self, mut epoll: Epoll) {
        let mut timeout = self.lock().timeout();
        loop {
            let ready = epoll.wait(timeout).unwrap_or_default();
            let mut worker = self.lock();
            worker.round(&epoll, ready);
            if worker.stopping {
                return worker.leave();
            }
            timeout = worker.timeout();
        }
    }

    /// Leaves mail for the thread, or gives it back if the box is full.
    pub(crate) fn send(&self, mail: ToWorker) -> Result<(), ToWorker> {
        self.mailbox.send(mail)
    }

    /// What a leg's media did so far, if that can be seen at once.
    pub(crate) fn leg_stats(&self, leg: LegId) -> Option<Option<LegStats>> {
        self.visit().map(|visit| visit.worker.switch.leg_stats(leg.media()))
    }

    /// Lets two legs hear each other, if that can be done at once.
    pub(crate) fn bridge(&self, first: LegId, second: LegId) -> Option<Result<Outcome, EngineError>> {
        let mut visit = self.visit()?;
        Some(visit.worker.guarded(first, |worker| worker.join(first, second)))
    }

    /// The worker's state, if nobody has it and no mail goes first.
    fn visit(&self) -> Option<Visit<'_>> {
        let worker = match self.worker.try_lock() {
            Ok(worker) => worker,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        (!worker.stopping && self.mailbox.is_empty()).then_some(Visit { worker })
    }

    fn lock(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work in place of the thread; at its end all is sent and told, and the thread knows its timers.
struct Visit<'a> {
    worker: MutexGuard<'a, Worker>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.worker.drain();
        self.worker.flush();
        self.worker.publish_now();
        self.worker.hurry();
    }
}

impl Worker {
    /// Wakes the thread if it would sleep past a new timer.
    fn hurry(&mut self) {
        let next = self.next_time(Instant::now());
        if next.is_some_and(|next| self.next_round.is_none_or(|round| next < round)) {
            self.next_round = next;
            self.mailbox.signal();
        }
    }
}

/// The SIP thread's way to one worker.
pub(crate) struct Colleague {
    desk: Arc<Desk>,
    outbox: Outbox<ToWorker>,
    /// Jobs that went by mail and are not answered. What is asked later must not be answered before.
    asked: usize,
}

impl Colleague {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { outbox: Outbox::new(Arc::clone(&desk.mailbox)), desk, asked: 0 }
    }

    /// Has work done on a leg's media: now, and this is what came of it; or by mail, and it is told later.
    pub(crate) fn ask(
        &mut self,
        leg: LegId,
        purpose: Purpose,
        job: MediaJob,
    ) -> Option<Result<Outcome, EngineError>> {
        if self.asked == 0
            && let Some(mut visit) = self.visit()
        {
            return Some(visit.worker.guarded(leg, |worker| worker.do_job(leg, job)));
        }
        self.asked += 1;
        self.outbox.send(ToWorker::Job { leg, purpose, job });
        None
    }

    /// A job that went by mail is answered.
    pub(crate) fn answered(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// Frees a leg's media, and gives its end back to be told; or has the worker do both.
    pub(crate) fn end(&mut self, mut ended: Box<Ended>) -> Option<Box<Ended>> {
        // What was told of the leg before must not wait behind its end.
        if let Some(mut visit) = self.visit().filter(|visit| !visit.worker.events.is_clogged()) {
            ended.stats = visit.worker.release(ended.leg);
            return Some(ended);
        }
        self.outbox.send(ToWorker::End(ended));
        None
    }

    /// Tells of a key that a SIP leg's peer pressed by INFO.
    pub(crate) fn pressed(&mut self, leg: LegId, key: Key) {
        if let Some(mut visit) = self.visit() {
            return visit.worker.pressed(leg, key);
        }
        self.outbox.send(ToWorker::Pressed(leg, key));
    }

    pub(crate) fn is_clogged(&self) -> bool {
        self.outbox.is_clogged()
    }

    pub(crate) fn flush(&mut self) {
        self.outbox.flush();
    }

    pub(crate) fn leave(&mut self) {
        self.outbox.leave();
    }

    fn visit(&self) -> Option<Visit<'_>> {
        if self.outbox.is_clogged() { None } else { self.desk.visit() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MediaAddress, ToSip};
    use crate::ports::PortPool;
    use crate::socket::{Options, Socket};
    use crate::worker::Parts;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;
    use telephony_media::SwitchConfig;
    use telephony_media::codec::Codec;
    use telephony_media::dtls::Certificate;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 2));

    struct Office {
        desk: Arc<Desk>,
        epoll: Epoll,
        sip: Arc<Mailbox<ToSip>>,
    }

    fn office() -> Office {
        let webrtc = Socket::bind((HERE, 0).into(), Options { buffer: None, errors: false }).unwrap();
        let mailbox = Arc::new(Mailbox::new(16).unwrap());
        let epoll = Parts::epoll(&mailbox, &webrtc).unwrap();
        let sip = Arc::new(Mailbox::new(16).unwrap());
        let worker = Worker::new(Parts {
            webrtc,
            mailbox,
            sip: Arc::clone(&sip),
            events: Arc::new(Mailbox::new(16).unwrap()),
            stats: Arc::default(),
            load: Arc::default(),
            pool: PortPool::new(&(31_000..=31_099), 0, 1, 1),
            switch: SwitchConfig {
                webrtc_locals: Vec::new(),
                certificate: Arc::new(Certificate::generate([7; 32], Duration::from_secs(1)).unwrap()),
                media_timeout: Duration::from_secs(60),
                max_legs: 16,
                own: Arc::default(),
            },
            seed: [7; 32],
            watch: epoll.set.clone(),
        });
        Office { desk: Arc::new(Desk::new(worker)), epoll, sip }
    }

    fn ask(colleague: &mut Colleague, number: u64) -> Option<Result<Outcome, EngineError>> {
        let address = MediaAddress { bind: HERE, local: HERE, advertise: HERE, signals_keys: false };
        let job = MediaJob::Offer { address, codecs: vec![Codec::Pcmu] };
        colleague.ask(LegId::from_raw(number << 8), Purpose::Dial, job)
    }

    #[test]
    fn work_is_done_in_place_and_the_thread_learns_of_its_timers() {
        let mut office = office();
        assert!(office.desk.lock().timeout().is_some(), "counters are to be published");
        office.desk.lock().publisher.is_due(Instant::now() + Duration::from_secs(1));
        assert_eq!(office.desk.lock().timeout(), None);
        let done = ask(&mut Colleague::new(Arc::clone(&office.desk)), 1).unwrap().unwrap();
        assert!(done.sdp.unwrap().contains("m=audio"));
        assert_eq!(office.desk.lock().stats.ports_in_use.read(), 1);
        let timer = office.desk.lock().next_timer();
        assert_eq!(office.epoll.wait(Some(Duration::ZERO)).unwrap(), usize::from(timer.is_some()));
    }

    #[test]
    fn what_is_asked_of_a_busy_worker_goes_by_mail_and_nothing_overtakes_it() {
        let office = office();
        let mut colleague = Colleague::new(Arc::clone(&office.desk));
        let busy = office.desk.lock();
        assert!(ask(&mut colleague, 1).is_none());
        drop(busy);
        assert!(office.desk.leg_stats(LegId::from_raw(1 << 8)).is_none(), "mail goes first");
        office.desk.lock().read_mail();
        assert!(ask(&mut colleague, 2).is_none(), "the first answer is not read yet");
        assert!(matches!(office.sip.take(), Some(ToSip::Media { result: Ok(_), .. })));
        colleague.answered();
        office.desk.lock().read_mail();
        colleague.answered();
        assert!(ask(&mut colleague, 3).unwrap().is_ok());
    }

    #[test]
    fn visitors_and_the_thread_do_every_job_once() {
        let Office { desk, epoll, sip } = office();
        let thread = std::thread::spawn({
            let desk = Arc::clone(&desk);
            move || desk.run(epoll)
        });
        let mut colleague = Colleague::new(Arc::clone(&desk));
        let (mut at_once, mut by_mail) = (0, 0);
        for number in 1..=40 {
            match ask(&mut colleague, number) {
                Some(done) => at_once += usize::from(done.is_ok()),
                None => by_mail += 1,
            }
            // Wakes the thread, so that both reach for the desk.
            desk.mailbox.signal();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while by_mail > 0 && Instant::now() < deadline {
            while let Some(ToSip::Media { result, .. }) = sip.take() {
                (at_once, by_mail) = (at_once + usize::from(result.is_ok()), by_mail - 1);
            }
        }
        // The switch has room for 16.
        assert_eq!((at_once, by_mail), (16, 0));
        desk.send(ToWorker::Stop).map_err(drop).unwrap();
        thread.join().unwrap();
    }
}
