//! Several servers on a store that fails, with handlers of every sort, many times over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ergon_core::{
    Client, Handle, Manager, RetryPolicy, Rng, State, TaskError, TaskId, TaskRecord, Token,
};
use ergon_server::{Context, RunningServer, Server, ServerConfig};
use ergon_testing::{Faulty, MemoryStore, Operation, SeededRng};

use crate::support::{SECOND, Work, finished, memory, pass, start};

const TASKS: u32 = 60;
const SEEDS: u64 = 40;

/// Every start of a handler: which task, with which token.
type Starts = Arc<Mutex<Vec<(TaskId, Token)>>>;

/// What a handler does is decided by the number of its task and its attempt.
async fn behave(work: Work, context: Context, starts: Starts) -> Result<u32, TaskError> {
    starts.lock().unwrap().push((context.id(), context.token()));
    let is_first = context.attempt() == 1;
    match work.number % 10 {
        0 if is_first => Err(TaskError::retry("no luck")),
        1 if is_first => unreachable!("a bad number"),
        2 if context.claimed_at() - context.created_at() < jiff::SignedDuration::from_secs(30) => {
            Err(TaskError::snooze(SECOND * 7))
        }
        3 if is_first => std::future::pending().await,
        4 => {
            pass(SECOND * 12).await;
            Ok(work.number)
        }
        5 => {
            let reason = tokio::time::timeout(SECOND * 45, context.cancelled()).await;
            if reason.is_ok() { Err(TaskError::retry("interrupted")) } else { Ok(work.number) }
        }
        6 => Err(TaskError::fail("hopeless")),
        7 => Err(TaskError::cancel("not wanted")),
        8 => {
            tokio::task::yield_now().await;
            Ok(work.number)
        }
        _ => Ok(work.number),
    }
}

struct Simulation {
    store: MemoryStore,
    rng: Arc<SeededRng>,
    starts: Starts,
    servers: Vec<(Faulty, RunningServer)>,
}

impl Simulation {
    fn draw(&self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    fn add_server(&mut self) {
        let faulty = Faulty::new(self.store.clone());
        let starts = Arc::clone(&self.starts);
        let config = ServerConfig::new()
            .lease(SECOND * 9)
            .rescue_interval(SECOND * 2)
            .grace_period(SECOND * 3)
            .flush_period(SECOND * 15)
            .default_timeout(SECOND * 60);
        let builder = Server::builder(faulty.clone())
            .config(config)
            .rng(Arc::clone(&self.rng) as Arc<dyn Rng>)
            .handler(move |work: Work, context: Context| {
                behave(work, context, Arc::clone(&starts))
            });
        self.servers.push((faulty, start(builder)));
    }

    /// Does something bad to one of the servers.
    async fn disturb(&mut self) {
        let victim = usize::try_from(self.draw(self.servers.len() as u64)).unwrap();
        let (faulty, _) = &self.servers[victim];
        let operations = [Operation::Claim, Operation::Finish, Operation::Beat];
        let operation = operations[usize::try_from(self.draw(3)).unwrap()];
        let times = usize::try_from(1 + self.draw(6)).unwrap();
        match self.draw(7) {
            0 => faulty.fail_before(operation, times),
            1 | 2 => faulty.fail_after(operation, times),
            3 => faulty.delay(operation, Duration::from_millis(self.draw(8_000))),
            4 => faulty.heal(),
            5 => {
                // It dies: dropped in its sleep, with whatever its store lets it say.
                faulty.fail_before(Operation::Finish, usize::MAX);
                drop(self.servers.swap_remove(victim));
                self.add_server();
            }
            _ => {
                let (faulty, server) = self.servers.swap_remove(victim);
                faulty.heal();
                assert!(server.shutdown().await.is_clean());
                self.add_server();
            }
        }
    }
}

fn check(number: u32, task: &TaskRecord) {
    let expected = match number % 10 {
        6 => State::Failed,
        7 => State::Cancelled,
        _ => State::Completed,
    };
    assert_eq!(task.state, expected, "{task:?}");
    let attempts = match number % 10 {
        0 | 1 | 3 => 2,
        _ => 1,
    };
    assert_eq!(task.progress.attempt, attempts, "only outcomes spend attempts: {task:?}");
}

/// Every start of a task had a larger token than the one before, and one of them was the last.
fn check_tokens(starts: &[(TaskId, Token)], tasks: &BTreeMap<TaskId, TaskRecord>) {
    let mut newest: BTreeMap<TaskId, Token> = BTreeMap::new();
    for &(id, token) in starts {
        let before = newest.insert(id, token);
        assert!(before.is_none_or(|before| before < token), "{id}: {before:?}, {token}");
    }
    for (id, task) in tasks {
        assert_eq!(newest.get(id), Some(&task.progress.token), "{id}");
    }
}

async fn simulate(seed: u64) {
    let store = memory();
    let mut simulation = Simulation {
        store: store.clone(),
        rng: Arc::new(SeededRng::new(seed)),
        starts: Starts::default(),
        servers: Vec::new(),
    };
    for _ in 0..3 {
        simulation.add_server();
    }
    let client = Client::new(store.clone());
    let mut handles: Vec<Handle<u32>> = Vec::new();
    for number in 0..TASKS {
        let work = client.enqueue(Work { number }).retry(RetryPolicy::Fixed(SECOND));
        handles.push(work.await.unwrap().into_handle());
        pass(Duration::from_millis(simulation.draw(1_000))).await;
        if number % 2 == 0 {
            simulation.disturb().await;
        }
    }
    // From here on nothing is disturbed, and everything has to end.
    for (faulty, _) in &simulation.servers {
        faulty.heal();
    }
    let mut tasks = BTreeMap::new();
    for (handle, number) in handles.iter().zip(0..) {
        let task = finished(handle, store.clone()).await;
        check(number, &task);
        tasks.insert(task.id, task);
    }
    for (_, server) in simulation.servers {
        assert!(server.loops().iter().all(|status| !status.is_late()), "{:?}", server.loops());
        assert!(server.shutdown().await.is_clean());
    }
    check_tokens(&simulation.starts.lock().unwrap(), &tasks);
    let queues = Manager::new(store).tasks().queues().await.unwrap();
    assert_eq!(queues[0].counts.get(State::Running), 0);
    assert_eq!(queues[0].counts.total(), u64::from(TASKS));
}

/// Runs a simulation on a thread that is named after its seed, so that a failure tells it.
fn run(seed: u64) {
    let simulation = move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed));
    };
    let thread = std::thread::Builder::new().name(format!("seed {seed}"));
    thread.spawn(simulation).unwrap().join().unwrap();
}

#[test]
fn whatever_happens_every_task_ends_as_it_should() {
    (0..SEEDS).for_each(run);
}
