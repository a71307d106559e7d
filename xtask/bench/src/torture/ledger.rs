//! The ledger: what a child was answered, on the medium before anything follows from it.
//!
//! Every child appends to a file of its own, so that a line torn by its death is the last one. One
//! thread writes: what arrives while it syncs goes into the next write together.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use anyhow::{Context, Result, anyhow};
use ergon_core::{Clock as _, SystemClock, TaskId, Token, time::to_micros};
use tokio::sync::oneshot;

/// One line of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: TaskId,
    pub(super) what: What,
}

/// A line and the microseconds since 1970 when it was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) at: i64,
    pub(super) entry: Entry,
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Its enqueue was acknowledged; with the key it is unique by.
    Acked(Option<u32>),
    /// It was named as the holder of a key.
    Held,
    /// An operator called it off while it waited, and that was acknowledged.
    Called,
    /// Its handler is about to start.
    Start(Token),
    /// Its handler has ended.
    Ran(Token),
    /// The outcome was applied, and left the task so.
    End(Token, Ending),
    /// The outcome was refused as stale.
    Stale(Token),
    /// The same, when the lease may have been over.
    Late(Token),
}

/// How an applied outcome left a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Completed,
    Retried,
    Failed,
    Cancelled,
}

const ENDINGS: [(Ending, &str); 4] = [
    (Ending::Completed, "completed"),
    (Ending::Retried, "retried"),
    (Ending::Failed, "failed"),
    (Ending::Cancelled, "cancelled"),
];

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ENDINGS.iter().find(|(ending, _)| ending == self).map_or("", |it| it.1);
        f.write_str(name)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id;
        match self.what {
            What::Acked(None) => write!(f, "acked {id}"),
            What::Acked(Some(key)) => write!(f, "acked {id} {key}"),
            What::Held => write!(f, "held {id}"),
            What::Called => write!(f, "called {id}"),
            What::Start(token) => write!(f, "start {id} {token}"),
            What::Ran(token) => write!(f, "ran {id} {token}"),
            What::End(token, ending) => write!(f, "end {id} {token} {ending}"),
            What::Stale(token) => write!(f, "stale {id} {token}"),
            What::Late(token) => write!(f, "late {id} {token}"),
        }
    }
}

impl FromStr for Entry {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let (name, id) = (word().context("no word")?, word().context("no id")?);
        let (third, fourth) = (word(), word());
        let token = || Ok::<_, anyhow::Error>(Token::new(third.context("no token")?.parse()?));
        let what = match name {
            "acked" => What::Acked(third.map(str::parse).transpose()?),
            "held" => What::Held,
            "called" => What::Called,
            "start" => What::Start(token()?),
            "ran" => What::Ran(token()?),
            "end" => {
                let ending = ENDINGS.iter().find(|(_, name)| Some(*name) == fourth);
                What::End(token()?, ending.context("no ending")?.0)
            }
            "stale" => What::Stale(token()?),
            "late" => What::Late(token()?),
            _ => return Err(anyhow!("unknown word {name}")),
        };
        Ok(Self { id: id.parse()?, what })
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.at, self.entry)
    }
}

impl FromStr for Noted {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let (at, entry) = line.split_once(' ').context("no instant")?;
        Ok(Self { at: at.parse()?, entry: entry.parse()? })
    }
}

/// Writes the ledger of one child. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    sender: Sender<Lines>,
}

/// Lines to be written, and whom to tell when they are on the medium.
type Lines = (String, Option<oneshot::Sender<()>>);

impl Ledger {
    /// Begins the ledger of a round.
    pub(super) fn begin(place: &Path, round: u32) -> Result<Self> {
        let path = file_of(place, round);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.with_context(|| format!("begin {}", path.display()))?;
        let (sender, receiver) = channel();
        thread::Builder::new().name("ledger".to_owned()).spawn(move || write(file, &receiver))?;
        Ok(Self { sender })
    }

    /// Writes entries, and returns when they are on the medium.
    pub(super) async fn note(&self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.send(entries, Some(done))?;
        is_done.await.context("the ledger is gone")
    }

    /// Has entries written before whatever is noted later.
    pub(super) fn pass(&self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        self.send(entries, None)
    }

    fn send(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        done: Option<oneshot::Sender<()>>,
    ) -> Result<()> {
        let at = to_micros(SystemClock.now());
        let lines: String =
            entries.into_iter().map(|entry| format!("{}\n", Noted { at, entry })).collect();
        self.sender.send((lines, done)).ok().context("the ledger is gone")
    }
}

/// Writes until nobody is left who could send. When it cannot write it ends, and whoever sends finds
/// it gone.
fn write(mut file: File, receiver: &Receiver<Lines>) {
    while let Ok((mut text, done)) = receiver.recv() {
        let mut waiting = vec![done];
        for (more, done) in receiver.try_iter() {
            text.push_str(&more);
            waiting.push(done);
        }
        if file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for done in waiting.into_iter().flatten() {
            // Who does not wait any more does not have to be told.
            let _ = done.send(());
        }
    }
}

fn file_of(place: &Path, round: u32) -> PathBuf {
    place.join(format!("ledger-{round:05}"))
}

/// Reads the ledger of a round; a child that died early has none. A last line without an end was
/// torn, and says nothing.
pub(super) fn read(place: &Path, round: u32) -> Result<Vec<Noted>> {
    let path = file_of(place, round);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path)?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    let parse =
        |line: &str| line.parse().with_context(|| format!("line {line:?} of {}", path.display()));
    whole.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_text() {
        let (id, token) = (TaskId::from_parts(1, 2, 3), Token::new(7));
        let all = [
            What::Acked(None),
            What::Acked(Some(9)),
            What::Held,
            What::Called,
            What::Start(token),
            What::Ran(token),
            What::Stale(token),
            What::Late(token),
        ];
        let ends = ENDINGS.map(|(ending, _)| What::End(token, ending));
        for what in all.into_iter().chain(ends) {
            let entry = Entry { id, what };
            assert_eq!(entry.to_string().parse::<Entry>().unwrap(), entry);
        }
        for bad in ["", "acked", "start x 1", "end 1 2", "shout 1"] {
            assert!(bad.parse::<Entry>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn what_was_noted_is_read_and_a_torn_line_is_not() {
        let place = tempfile::tempdir().unwrap();
        let id = TaskId::from_parts(1, 2, 3);
        let entry = |token| Entry { id, what: What::Start(Token::new(token)) };
        let ledger = Ledger::begin(place.path(), 1).unwrap();
        ledger.pass([entry(1)]).unwrap();
        ledger.note([entry(2), entry(3)]).await.unwrap();
        let mut file = OpenOptions::new().append(true).open(file_of(place.path(), 1)).unwrap();
        file.write_all(b"17 start 0193").unwrap();
        let noted = read(place.path(), 1).unwrap();
        assert!(noted.is_sorted_by_key(|noted| noted.at), "{noted:?}");
        let read_back: Vec<_> = noted.iter().map(|noted| noted.entry).collect();
        assert_eq!(read_back, [entry(1), entry(2), entry(3)]);
        assert_eq!(read(place.path(), 2).unwrap(), []);
    }
}
