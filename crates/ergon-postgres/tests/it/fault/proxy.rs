//! Stands between a store and its server, and does what networks do.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// How bytes get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) to_server: bool,
    pub(crate) to_client: bool,
    /// How long each piece takes on its way to the server.
    pub(crate) delay: Duration,
    /// Whether all this is about the doorbell's connections alone.
    pub(crate) doorbell_only: bool,
}

impl Flow {
    /// Everything gets through.
    pub(crate) const FREE: Self =
        Self { to_server: true, to_client: true, delay: Duration::ZERO, doorbell_only: false };
    /// Nothing gets through, and nobody is told.
    pub(crate) const HELD: Self = Self { to_server: false, to_client: false, ..Self::FREE };
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In good manners.
    Fin,
    /// By a reset.
    Reset,
}

/// What all connections look at.
struct Rules {
    flow: watch::Receiver<Flow>,
    end: watch::Receiver<(u64, End)>,
    /// A piece of the statement whose reply is lost, and how many with it get one before.
    marker: Mutex<Option<(&'static str, usize)>>,
    cuts: AtomicUsize,
}

impl Rules {
    /// Counts a statement with the marker; says whether it is the one whose reply is lost.
    fn is_next(&self) -> bool {
        let mut marker = self.marker.lock().unwrap();
        match &mut *marker {
            Some((_, answered @ 1..)) => {
                *answered -= 1;
                false
            }
            Some((_, 0)) => marker.take().is_some(),
            None => false,
        }
    }
}

/// A proxy; its connections end with it.
pub(crate) struct Proxy {
    port: u16,
    rules: Arc<Rules>,
    flow: watch::Sender<Flow>,
    end: watch::Sender<(u64, End)>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one before a server at a port of this machine.
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (flow, flow_seen) = watch::channel(Flow::FREE);
        let (end, end_seen) = watch::channel((0, End::Fin));
        let (marker, cuts) = (Mutex::new(None), AtomicUsize::new(0));
        let rules = Arc::new(Rules { flow: flow_seen, end: end_seen, marker, cuts });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&rules)));
        Self { port, rules, flow, end, _tasks: tasks }
    }

    /// The URL of the database through it; encryption would hide what is said.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Changes how bytes get through; what was held goes on.
    pub(crate) fn flow(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Ends every connection that is open.
    pub(crate) fn end(&self, how: End) {
        self.end.send_modify(|end| *end = (end.0 + 1, how));
    }

    /// The next statement with this text is carried out by the server, and its client is reset instead
    /// of hearing of it.
    pub(crate) fn lose_reply_of(&self, text: &'static str) {
        self.lose_reply_behind(0, text);
    }

    /// The same after so many statements with this text that are answered.
    pub(crate) fn lose_reply_behind(&self, answered: usize, text: &'static str) {
        *self.rules.marker.lock().unwrap() = Some((text, answered));
    }

    /// How many replies were lost that way.
    pub(crate) fn lost_replies(&self) -> usize {
        self.rules.cuts.load(SeqCst)
    }
}

async fn accept(listener: TcpListener, server: u16, rules: Arc<Rules>) {
    let mut links = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // A server that does not listen is one that hangs up.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { continue };
        links.spawn(link(client, server, Arc::clone(&rules)));
        while links.try_join_next().is_some() {}
    }
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Link {
    is_doorbell: AtomicBool,
    /// The reply that comes next is lost, and then the connection.
    loses_reply: AtomicBool,
}

async fn link(client: TcpStream, server: TcpStream, rules: Arc<Rules>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let mut end = rules.end.clone();
    end.mark_unchanged();
    let (mut client_reader, mut client_writer) = client.into_split();
    let (mut server_reader, mut server_writer) = server.into_split();
    let link = Link::default();
    let how = tokio::select! {
        how = to_server(&rules, &link, &mut client_reader, &mut server_writer) => how,
        how = to_client(&rules, &link, &mut server_reader, &mut client_writer) => how,
        _ = end.changed() => end.borrow().1,
    };
    if how == End::Reset {
        let client = client_reader.reunite(client_writer).unwrap();
        // Fails only when the client has gone before.
        drop(client.set_zero_linger());
    }
}

/// Waits until a piece may pass; answers how long it takes.
async fn gate(rules: &Rules, link: &Link, passes: impl Fn(&Flow) -> bool) -> Duration {
    let mut flow = rules.flow.clone();
    let is_free =
        |flow: &Flow| (flow.doorbell_only && !link.is_doorbell.load(SeqCst)) || passes(flow);
    match flow.wait_for(is_free).await {
        Ok(flow) if flow.doorbell_only && !link.is_doorbell.load(SeqCst) => Duration::ZERO,
        Ok(flow) => flow.delay,
        Err(_gone) => Duration::ZERO,
    }
}

async fn to_server(
    rules: &Rules,
    link: &Link,
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
) -> End {
    let mut talk = Talk::default();
    let mut piece = vec![0; 1 << 16];
    loop {
        let Ok(len @ 1..) = reader.read(&mut piece).await else { return End::Fin };
        let marker = *rules.marker.lock().unwrap();
        let has_ended_marked = talk.hear(&piece[..len], marker.map(|(text, _)| text));
        if talk.is_doorbell {
            link.is_doorbell.store(true, SeqCst);
        }
        let delay = gate(rules, link, |flow| flow.to_server).await;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if has_ended_marked {
            link.loses_reply.store(rules.is_next(), SeqCst);
        }
        if writer.write_all(&piece[..len]).await.is_err() {
            return End::Fin;
        }
    }
}

async fn to_client(
    rules: &Rules,
    link: &Link,
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
) -> End {
    let mut piece = vec![0; 1 << 16];
    loop {
        let Ok(len @ 1..) = reader.read(&mut piece).await else { return End::Fin };
        gate(rules, link, |flow| flow.to_client).await;
        if link.loses_reply.load(SeqCst) {
            // The server says that it is ready when it has carried everything out.
            if let Some([b'Z', 0, 0, 0, 5, _]) = piece[..len].last_chunk::<6>() {
                rules.cuts.fetch_add(1, SeqCst);
                return End::Reset;
            }
        } else if writer.write_all(&piece[..len]).await.is_err() {
            return End::Fin;
        }
    }
}

/// What a client said so far, by the messages of Postgres' protocol.
#[derive(Default)]
struct Talk {
    rest: Vec<u8>,
    has_begun: bool,
    is_doorbell: bool,
    /// The statements that were prepared, by name.
    prepared: HashMap<Vec<u8>, Vec<u8>>,
    bound: Vec<u8>,
}

impl Talk {
    /// Takes a piece; says whether it ends a statement that has the marker in it.
    fn hear(&mut self, piece: &[u8], marker: Option<&str>) -> bool {
        self.rest.extend_from_slice(piece);
        let mut has_ended_marked = false;
        while let Some((kind, body)) = self.message() {
            let mut texts = body.split(|&byte| byte == 0).map(<[u8]>::to_vec);
            let (one, two) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
            match kind {
                b'P' => drop(self.prepared.insert(one, two)),
                b'B' => self.bound = self.prepared.get(&two).cloned().unwrap_or_default(),
                b'S' => has_ended_marked |= has(&std::mem::take(&mut self.bound), marker),
                b'Q' => has_ended_marked |= has(&one, marker),
                _ => {}
            }
        }
        has_ended_marked
    }

    /// Takes the next whole message; the first of all has no kind.
    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = usize::from(self.has_begun);
        let len = self.rest.get(head..head + 4)?;
        let len = u32::from_be_bytes(len.try_into().unwrap());
        let end = head + usize::try_from(len).unwrap();
        let message: Vec<u8> =
            (self.rest.len() >= end).then(|| self.rest.drain(..end).collect())?;
        if !self.has_begun {
            self.has_begun = true;
            self.is_doorbell = has(&message, Some("doorbell"));
            return Some((0, Vec::new()));
        }
        Some((message[0], message[5..].to_vec()))
    }
}

fn has(text: &[u8], marker: Option<&str>) -> bool {
    marker.is_some_and(|marker| String::from_utf8_lossy(text).contains(marker))
}
