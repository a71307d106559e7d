//! What is behind the addresses that order something. Forms are answered by another address, programs
//! by what came of it.

use axum::{
    extract::Path,
    response::{IntoResponse as _, Redirect, Response},
};
use bytes::Bytes;
use ergon_core::{
    Applied, Command, CommandVerdict, EnqueueError, Selection, StoreError, TaskId, client::Enqueued,
};
use http::{StatusCode, header::SET_COOKIE};
use maud::html;
use serde_json::value::RawValue;

use crate::{
    audit::Order,
    auth::Action,
    bound::report,
    bulk::Outcome,
    error::{PageError, Trouble, of_enqueue, of_order},
    fields::Fields,
    link::Links,
    notice::Notice,
    pages::{
        queues::name_of,
        task::{gone, id_of},
    },
    parts::{layout::Place, table},
    respond::{json_of, still},
    service::{Came, Results, TaskOutcome, order},
    view::filter::instant,
    visit::{Context, THEME_COOKIE, Theme, Wants},
};

pub(crate) mod operations;

/// Longest reason of a cancel, in characters.
const REASON_MAX: usize = 200;

fn failed(error: &StoreError) -> Trouble {
    report("order", error)
}

/// The command that a form or a program orders.
fn command(
    action: &str,
    fields: &Fields,
    context: &Context,
) -> Result<(Action, Command), PageError> {
    let unknown = || PageError::NotFound("There is no such order.".to_owned());
    let action =
        Action::ALL.into_iter().find(|known| known.as_str() == action).ok_or_else(unknown)?;
    let command = match action {
        Action::Retry => Command::Retry,
        Action::Cancel => {
            let reason = fields.one("reason").unwrap_or_default();
            let (reason, _) = crate::text::excerpt(reason, REASON_MAX);
            let by = context.principal.name();
            let reason = if reason.is_empty() {
                format!("cancelled by {by}")
            } else {
                format!("{reason} ({by})")
            };
            Command::Cancel { reason }
        }
        Action::Reschedule => {
            Command::Reschedule { run_at: instant("run_at", fields.wanted("run_at")?)? }
        }
        Action::SetPriority => Command::SetPriority { priority: fields.number("priority")? },
        Action::Delete => {
            // A program that asks for it means it; a form may have been sent by a slip.
            let is_meant = fields.is_json() || fields.one("confirm") == Some("yes");
            if !is_meant {
                return Err(PageError::Malformed(
                    "confirm: deleting has to be confirmed".to_owned(),
                ));
            }
            Command::Delete
        }
        Action::PauseQueue
        | Action::ResumeQueue
        | Action::Enqueue
        | Action::Operate
        | Action::Export => return Err(unknown()),
    };
    Ok((action, command))
}

/// Carries out an order for tasks.
async fn apply(
    context: &Context,
    action: Action,
    command: Command,
    ids: Vec<TaskId>,
) -> Result<Vec<(TaskId, CommandVerdict)>, PageError> {
    let target = match ids.as_slice() {
        [one] => one.to_string(),
        many => format!("{} tasks", many.len()),
    };
    let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    order(context, Order::new(action, target).count(count), move |context| async move {
        let manager = &context.app.manager;
        let applied = manager.control().apply(&Selection::Ids(ids), &command).await;
        let applied: Applied = applied.map_err(|error| of_order(error, &failed))?;
        let changed = applied.changed();
        let note = format!("{changed} of {} changed", applied.verdicts.len());
        let changed = u64::try_from(changed).unwrap_or(u64::MAX);
        Ok(Came { answer: applied.verdicts, changed, note })
    })
    .await
}

/// Orders something for one task.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/{action}", tag = "orders",
    params(("id" = String, Path), ("action" = String, Path, description = "retry, cancel, reschedule, priority or delete")),
    request_body(content_type = "application/json", description = "reason, run_at or priority, as the order needs", content = Option<Object>),
    responses(
        (status = 200, body = Results),
        (status = 403, body = crate::frame::Problem),
        (status = 404, body = crate::frame::Problem),
        (status = 409, body = crate::frame::Problem, description = "Illegal in the state of the task"),
    )
)]
pub(crate) async fn task(
    context: Context,
    Path((id, action)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, PageError> {
    let id = id_of(&id)?;
    let fields = Fields::parse(&body, context.visit.sends_json)?;
    let (action, command) = command(&action, &fields, &context)?;
    let verdicts = apply(&context, action, command, vec![id]).await?;
    let verdict = verdicts.first().map_or(CommandVerdict::NotFound, |&(_, verdict)| verdict);
    let notice = match verdict {
        CommandVerdict::NotFound => return Err(gone(id)),
        CommandVerdict::Illegal(state) => {
            let reason =
                format!("To {action} a task that is {state} is not possible. Nothing changed.");
            return Err(PageError::Conflict(reason));
        }
        CommandVerdict::Applied => Notice::Done(action),
        CommandVerdict::Requested => Notice::Requested,
        CommandVerdict::Unchanged => Notice::Unchanged,
    };
    if context.visit.wants == Wants::Json {
        return Ok(json_of(&Results { results: vec![TaskOutcome::of(id, verdict)] }));
    }
    let links = &context.visit.links;
    let target = if action == Action::Delete { links.at("/tasks") } else { links.task(id) };
    Ok(go(&target, notice))
}

/// Leads to another page, which says what was done.
fn go(target: &str, notice: Notice) -> Response {
    let mark = if target.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{target}{mark}notice={}", notice.code())).into_response()
}

/// Orders something for many tasks.
#[utoipa::path(
    post, path = "/api/v1/tasks/bulk", tag = "orders",
    request_body(content_type = "application/json", description = "action, ids (at most 1,000), and what the order needs", content = Object),
    responses((status = 200, body = Results), (status = 400, body = crate::frame::Problem))
)]
pub(crate) async fn bulk(context: Context, body: Bytes) -> Result<Response, PageError> {
    let fields = Fields::parse(&body, context.visit.sends_json)?;
    let (action, command) = command(fields.wanted("action")?, &fields, &context)?;
    let mut ids = Vec::new();
    for id in fields.all("ids") {
        let id = id_of(id)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let most = context.app.config.bulk_ids_max;
    if ids.is_empty() || ids.len() > most {
        return Err(PageError::Malformed(format!("ids: not 1 to {most} tasks")));
    }
    let verdicts = apply(&context, action, command, ids).await?;
    let results: Vec<_> =
        verdicts.into_iter().map(|(id, verdict)| TaskOutcome::of(id, verdict)).collect();
    if context.visit.wants == Wants::Json {
        return Ok(json_of(&Results { results }));
    }
    let actor = context.principal.name().to_owned();
    let id = context.app.outcomes.keep(Outcome { actor, action, results });
    Ok(Redirect::to(&context.visit.links.at(&format!("/outcomes/{id:032x}"))).into_response())
}

/// Answers what came of an order for many tasks.
pub(crate) async fn outcome(
    context: Context,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let unknown = || {
        let reason = "What came of this order is not known here any more: it is kept for ten minutes, by \
                      the process that carried it out.";
        PageError::NotFound(reason.to_owned())
    };
    let id = u128::from_str_radix(&id, 16).map_err(|_error| unknown())?;
    let outcome = context.app.outcomes.find(id).ok_or_else(unknown)?;
    if outcome.actor != context.principal.name() {
        return Err(unknown());
    }
    let count = |word: &str| outcome.results.iter().filter(|result| result.outcome == word).count();
    let body = html! {
        p {
            (outcome.results.len()) " tasks: " (count("applied")) " " (outcome.action.done()) ", "
            (count("requested")) " asked to stop, " (count("unchanged")) " were so already, "
            (count("illegal")) " could not be, " (count("not_found")) " are gone."
        }
        (table::outcomes(&context, "Task by task", &outcome.results))
        p { a href=(context.visit.links.at("/tasks")) { "To the tasks" } }
    };
    Ok(still(&context, "What came of it", Place::Tasks, body))
}

/// Pauses or resumes a queue.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/{action}", tag = "orders",
    params(("queue" = String, Path), ("action" = String, Path, description = "pause or resume")),
    responses((status = 204, description = "Done"), (status = 403, body = crate::frame::Problem))
)]
pub(crate) async fn queue(
    context: Context,
    Path((name, action)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let name = name_of(&name)?;
    let action = match action.as_str() {
        "pause" => Action::PauseQueue,
        "resume" => Action::ResumeQueue,
        _ => return Err(PageError::NotFound("There is no such order.".to_owned())),
    };
    let target = context.visit.links.queue(&name);
    order(&context, Order::new(action, name.to_string()).count(1), move |context| async move {
        let control = context.app.manager.control();
        let done = match action {
            Action::PauseQueue => control.pause_queue(&name).await,
            _ => control.resume_queue(&name).await,
        };
        done.map_err(|error| of_order(error, &failed))?;
        Ok(Came { answer: (), changed: 1, note: String::new() })
    })
    .await?;
    if context.visit.wants == Wants::Json {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(go(&target, Notice::Done(action)))
}

/// Enqueues a task.
#[utoipa::path(
    post, path = "/api/v1/enqueue", tag = "orders",
    request_body(content_type = "application/json", description = "kind, payload; queue, priority, max_attempts, run_at, tags, id if chosen", content = Object),
    responses((status = 200, body = Results), (status = 400, body = crate::frame::Problem))
)]
pub(crate) async fn enqueue(context: Context, body: Bytes) -> Result<Response, PageError> {
    let fields = Fields::parse(&body, context.visit.sends_json)?;
    let kind = fields.wanted("kind")?.to_owned();
    let payload = fields.payload()?;
    let payload = RawValue::from_string(payload)
        .map_err(|error| PageError::Malformed(format!("payload: {error}")))?;
    let id = match fields.one("id") {
        Some(id) => Some(id_of(id)?),
        None => None,
    };
    let mut enqueue = context.app.client.enqueue_json(&kind, payload);
    if let Some(queue) = fields.one("queue") {
        enqueue = enqueue.queue(queue);
    }
    if fields.one("priority").is_some() {
        enqueue = enqueue.priority(fields.number("priority")?);
    }
    if fields.one("max_attempts").is_some() {
        enqueue = enqueue.max_attempts(fields.number("max_attempts")?);
    }
    if let Some(run_at) = fields.one("run_at") {
        enqueue = enqueue.scheduled_at(instant("run_at", run_at)?);
    }
    for tag in fields.all("tags").flat_map(|tags| tags.split(',')).map(str::trim) {
        if !tag.is_empty() {
            enqueue = enqueue.tag(tag);
        }
    }
    if let Some(id) = id {
        enqueue = enqueue.id(id);
    }
    let ordered = Order::new(Action::Enqueue, crate::text::excerpt(&kind, 128).0).count(1);
    let (id, notice) = order(&context, ordered, move |_context| async move {
        let enqueued: Result<Enqueued<serde_json::Value>, EnqueueError> = enqueue.await;
        let enqueued = enqueued.map_err(|error| of_enqueue(error, &failed))?;
        let notice = match &enqueued {
            Enqueued::Created(_) => Notice::Done(Action::Enqueue),
            Enqueued::Duplicate(_) => Notice::Duplicate,
        };
        let changed = u64::from(matches!(enqueued, Enqueued::Created(_)));
        Ok(Came { answer: (enqueued.id(), notice), changed, note: enqueued.id().to_string() })
    })
    .await?;
    if context.visit.wants == Wants::Json {
        let outcome = if notice == Notice::Duplicate { "unchanged" } else { "applied" };
        let result = TaskOutcome { id: id.to_string(), outcome, state: None };
        return Ok(json_of(&Results { results: vec![result] }));
    }
    Ok(go(&context.visit.links.task(id), notice))
}

/// Keeps the colours that were chosen.
pub(crate) async fn theme(context: Context, body: Bytes) -> Result<Response, PageError> {
    let fields = Fields::parse(&body, context.visit.sends_json)?;
    let theme = fields.one("theme").and_then(Theme::named);
    let theme = theme.ok_or_else(|| PageError::Malformed("theme: not known".to_owned()))?;
    let links: &Links = &context.visit.links;
    let back = fields.one("back").filter(|back| links.is_ours(back));
    let target = back.map_or_else(|| links.overview(), str::to_owned);
    let secure = if context.visit.is_https { "; Secure" } else { "" };
    let cookie = format!(
        "{THEME_COOKIE}={}; Path={}; Max-Age=31536000; HttpOnly; SameSite=Strict{secure}",
        theme.as_str(),
        links.cookie_path(),
    );
    Ok(([(SET_COOKIE, cookie)], Redirect::to(&target)).into_response())
}
