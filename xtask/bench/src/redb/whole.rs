//! What a whole process needs: memory, time to open, processor time when idle.

use std::ffi::OsString;

use anyhow::Result;
use serde::Deserialize;

use super::{Name, Plan, drain};
use crate::{
    measure::{Measure, median},
    plan::{Scratch, progress, rate},
    process::{self, Child},
    serving::CONCURRENCY,
    workload::PAYLOAD_BYTES,
};

/// What a child answers that drained a file.
#[derive(Debug, Deserialize)]
struct Drained {
    rss_open_mib: f64,
    rss_peak_mib: f64,
    seconds: f64,
}

/// Most memory while 2,000,000 queued tasks are worked off. The filling is another process's.
pub(super) fn rss_drain(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::RssDrain2m) {
        return Ok(Vec::new());
    }
    let tasks = plan.scaled(2_000_000, 2_000);
    let mut measure = Measure::new("rss_drain_2m", "MiB")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("tasks", tasks)
        .with("concurrency", CONCURRENCY);
    let (mut after_open, mut rates) = (Vec::new(), Vec::new());
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        drain::fill_file(scratch.file(), tasks)?;
        let drained: Drained = process::ask(&plan.program, drain_arguments(&scratch, tasks))?;
        measure.push(drained.rss_peak_mib);
        after_open.push(drained.rss_open_mib);
        rates.push(rate(tasks, std::time::Duration::from_secs_f64(drained.seconds)));
        progress("rss_drain_2m", run, &format!("{:.0} MiB", drained.rss_peak_mib));
    }
    note_median(&mut measure, "rss_open_mib", &after_open);
    note_median(&mut measure, "tasks_per_second", &rates);
    Ok(vec![measure])
}

fn drain_arguments(scratch: &Scratch, tasks: u64) -> Vec<OsString> {
    let tasks = tasks.to_string();
    vec!["child".into(), "drain".into(), scratch.file().into(), tasks.into()]
}

/// What a child answers that opened a file.
#[derive(Debug, Deserialize)]
struct Opened {
    open_seconds: f64,
    rss_mib: f64,
}

/// How long it takes to open a file with 2,000,000 queued tasks: closed before, and after a kill.
pub(super) fn open(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::Open2m) {
        return Ok(Vec::new());
    }
    let tasks = plan.scaled(2_000_000, 2_000);
    let mut measure = Measure::new("open_2m", "s")
        .with("payload_bytes", PAYLOAD_BYTES)
        .with("tasks", tasks)
        .with("page_cache", "warm");
    let scratch = plan.scratch()?;
    let arguments = |what: &str, rest: Option<&str>| {
        let mut all: Vec<OsString> = vec!["child".into(), what.into(), scratch.file().into()];
        all.extend(rest.map(OsString::from));
        all
    };
    // The first child fills the file and is killed, and so is each that opens it then: none of
    // them finds a file that was closed.
    let filled = Child::start(&plan.program, arguments("fill", Some(&tasks.to_string())))?;
    kill_after_answer::<serde::de::IgnoredAny>(filled)?;
    let mut killed = Vec::new();
    for run in 0..=plan.runs {
        let child = Child::start(&plan.program, arguments("open", Some("--stay")))?;
        let opened: Opened = kill_after_answer(child)?;
        progress("open_2m", run, &format!("{:.3} s after a kill", opened.open_seconds));
        killed.push(opened.open_seconds);
    }
    // What repair costs depends on the commit that was the last one before the kill.
    if let Some((after_fill, after_open)) = killed.split_first() {
        measure.note("after_kill_of_filling_s", *after_fill);
        note_median(&mut measure, "after_kill_of_just_opened_s", after_open);
    }
    let mut memory = Vec::new();
    // Closes it.
    let _: Opened = process::ask(&plan.program, arguments("open", None))?;
    for run in 1..=plan.runs {
        let opened: Opened = process::ask(&plan.program, arguments("open", None))?;
        progress("open_2m", run, &format!("{:.3} s", opened.open_seconds));
        measure.push(opened.open_seconds);
        memory.push(opened.rss_mib);
    }
    note_median(&mut measure, "rss_mib", &memory);
    measure.note("file_bytes", std::fs::metadata(scratch.file())?.len());
    Ok(vec![measure])
}

fn kill_after_answer<T: serde::de::DeserializeOwned>(mut child: Child) -> Result<T> {
    let answer = child.answer()?;
    process::kill(&mut child)?;
    Ok(answer)
}

/// What a child answers that had nothing to do.
#[derive(Debug, Deserialize)]
struct Idled {
    cpu_percent: f64,
}

/// How much of a core a server uses that has nothing to do.
pub(super) fn idle(plan: &Plan) -> Result<Vec<Measure>> {
    if !plan.wants(Name::IdleCpu) {
        return Ok(Vec::new());
    }
    let millis = plan.scaled(10_000, 1_000);
    let mut measure = Measure::new("idle_cpu", "%").with("millis", millis);
    for run in 1..=plan.runs {
        let scratch = plan.scratch()?;
        let millis = millis.to_string();
        let arguments: [OsString; 4] =
            ["child".into(), "idle".into(), scratch.file().into(), millis.into()];
        let idled: Idled = process::ask(&plan.program, arguments)?;
        progress("idle_cpu", run, &format!("{:.2} %", idled.cpu_percent));
        measure.push(idled.cpu_percent);
    }
    Ok(vec![measure])
}

fn note_median(measure: &mut Measure, key: &str, values: &[f64]) {
    measure.note(key, median(values));
}
