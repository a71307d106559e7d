//! A process of this program in another role.

use std::{
    env,
    process::{Child, Command, ExitStatus, Stdio},
};

use clap::ValueEnum as _;

use crate::{Args, Role};

/// Such a process. Workers end when their standard input does, so that a crash of ours leaves none behind.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(role: Role, args: &Args, url: &str) -> anyhow::Result<Self> {
        let role = role.to_possible_value().map(|role| role.get_name().to_owned());
        let child = Command::new(env::current_exe()?)
            .args(["--role", &role.unwrap_or_default(), "--tasks", &args.tasks.to_string()])
            .env("DATABASE_URL", url)
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL: it does nothing any more, not even close its connections.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Ends its standard input, which tells a worker to end, and waits until it has ended.
    pub(crate) fn end(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.0.wait()?)
    }
}
