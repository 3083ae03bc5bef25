//! `amber exec`: an additional process in a container.

use std::fs::File;
use std::io::{BufReader, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use amber_host::channel::Channel;
use amber_host::process::keep_descriptors_from;
use amber_host::signals::SignalWatch;
use amber_host::terminal::{WindowSize, window_size};
use anyhow::{Context, Result, anyhow, bail, ensure};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};

use crate::bundle::{Bundle, ignored};
use crate::cli::ExecArgs;
use crate::launch::ENDING;
use crate::oci::console::Pair;
use crate::oci::control::{ExecRequest, Reply, Request, ask, send};
use crate::oci::create::SELF;
use crate::oci::pid_file;
use crate::oci::preserved_fds::PreservedFds;
use crate::oci::proxy::{self, Terminal};
use crate::oci::state::{State, Status};
use crate::oci::{ROLE, Runtime};

/// Runs the process and waits for its end, unless `--detach` is given.
///
/// # Errors
/// The container is not running, or the program cannot be started.
pub(super) fn command(runtime: &Runtime, args: &ExecArgs) -> Result<u8> {
    let preserved = PreservedFds::take(args.preserve_fds, false)?;
    keep_descriptors_from(3).context("closing descriptors")?;
    let (container, state) = runtime.store.load(&args.id)?;
    match state.current() {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => bail!("cannot exec in a stopped container"),
        status => bail!("cannot exec in a {} container", status.name()),
    }
    for place in &args.cgroup {
        let path = place.split_once(':').map_or(place.as_str(), |(_, path)| path);
        ensure!(path.trim_matches('/').is_empty(), "--cgroup {place}: no such control group in the container");
    }
    for (name, value) in [("--process-label", &args.process_label), ("--apparmor", &args.apparmor)] {
        if value.is_some() {
            ignored(name);
        }
    }
    let process = process(args, &state)?;
    ensure!(process.args().iter().flatten().next().is_some(), "process args cannot be empty");
    let wants_terminal = process.terminal().unwrap_or(false);
    ensure!(
        wants_terminal || args.console_socket.is_none(),
        "cannot use console socket if runc will not detach or allocate tty"
    );
    if wants_terminal && args.detach && args.console_socket.is_none() {
        bail!("cannot allocate tty if runc will detach without setting console socket");
    }

    let asked = process.console_size().map_or_else(WindowSize::default, |size| WindowSize {
        rows: u16::try_from(size.height()).unwrap_or(0),
        columns: u16::try_from(size.width()).unwrap_or(0),
        ..WindowSize::default()
    });
    let pair = args.console_socket.as_ref().map(|socket| Pair::make(socket, asked)).transpose()?;
    let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().context("duplicating a descriptor");
    let terminal = match &pair {
        Some(pair) => Some((own(pair.slave.as_fd())?, own(pair.slave.as_fd())?)),
        None if wants_terminal => Some((own(stdin().as_fd())?, own(stdout().as_fd())?)),
        None => None,
    };
    let size = match &terminal {
        Some((_, screen)) => window_size(screen).context("standard output is no terminal")?,
        None => asked,
    };

    // Watched before the process begins, so that no signal is missed.
    let signals = if args.detach { None } else { Some(SignalWatch::all().context("watching signals")?) };
    let registry = container.proxies().context("the list of proxies")?;
    let title = process.args().clone().unwrap_or_default();
    let mut channel = Channel::new(container.connect().context("connecting to the sandbox")?);
    // A sandbox that is frozen, or busy with a hook, may never answer.
    let ending = signals.as_ref().map(|_| SignalWatch::new(&ENDING).context("watching signals")).transpose()?;
    channel.interrupt_by(ending.as_ref().map(AsFd::as_fd)).context("duplicating a descriptor")?;
    let request = Request::Exec(Box::new(ExecRequest { process, size: size.into() }));
    let stream = match terminal {
        Some((keys, screen)) => {
            let (ours, theirs) = UnixStream::pair().context("making a socket")?;
            let files: Vec<BorrowedFd<'_>> = [theirs.as_fd()].into_iter().chain(preserved.files()).collect();
            started(ask(&channel, &request, &files)?)?;
            Some(Terminal { stream: ours.into(), keys, screen })
        }
        None => {
            let (input, output, errors) = (stdin(), stdout(), stderr());
            let streams = [input.as_fd(), output.as_fd(), errors.as_fd()];
            let files: Vec<BorrowedFd<'_>> = streams.into_iter().chain(preserved.files()).collect();
            started(ask(&channel, &request, &files)?)?;
            None
        }
    };
    // From here on signals are forwarded to the process.
    channel.interrupt_by(None).context("duplicating a descriptor")?;
    drop(ending);
    pair.map_or(Ok(()), Pair::send)?;
    let note = |pid: u32| pid_file::write(pid as i32, args.pid_file.as_ref(), args.pidfd_socket.as_ref());
    let Some(signals) = signals else {
        let pid = leave(title, channel, stream, &registry)?;
        note(pid)?;
        return Ok(0);
    };
    // The process may have ended already; its status is read later.
    let _ = send(&channel, &Request::Proxy(std::process::id() as i32), &[]);
    note(std::process::id())?;
    proxy::run(channel, stream, signals)
}

fn started(reply: Reply) -> Result<i32> {
    match reply {
        Reply::Started(pid) => Ok(pid),
        other => Err(anyhow!("the sandbox answered {other:?}")),
    }
}

/// Leaves a proxy process on the host for the one in the guest. It has that process's command line and exit status.
fn leave(title: Vec<String>, channel: Channel, terminal: Option<Terminal>, registry: &File) -> Result<u32> {
    let (ours, theirs) = Channel::pair().context("making a socket")?;
    let mut title = title.into_iter();
    let mut command = Command::new(SELF);
    command.arg0(title.next().unwrap_or_default()).args(title);
    command.env_clear().env(ROLE, "proxy");
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
    if terminal.is_some() {
        // The caller of `exec` waits until no process holds standard error open.
        command.stderr(Stdio::null());
    }
    let child = command.spawn().context("starting a proxy")?;
    let status = File::open(format!("/proc/{}/stat", child.id())).context("the proxy's status")?;
    // The process may have ended already; the proxy reads its status.
    let _ = send(&channel, &Request::Proxy(child.id() as i32), &[status.as_fd()]);
    let mut files = vec![channel.as_fd(), registry.as_fd()];
    if let Some(terminal) = &terminal {
        files.extend([terminal.stream.as_fd(), terminal.keys.as_fd(), terminal.screen.as_fd()]);
    }
    send(&ours, &(), &files)?;
    Ok(child.id())
}

/// The process to run: from a file, or the container's first process with the changes that the flags make. As with
/// runc, a process from a file that has neither capabilities nor limits takes those of the first.
fn process(args: &ExecArgs, state: &State) -> Result<Process> {
    let first = || -> Result<Process> {
        let bundle = Bundle::load(&state.bundle)?;
        bundle.spec.process().clone().context("`process` is missing in the bundle")
    };
    if let Some(path) = &args.process {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let read: Result<Process, _> = serde_json::from_reader(BufReader::new(file));
        let mut asked = read.with_context(|| path.display().to_string())?;
        let limits = asked.rlimits().as_ref().is_some_and(|limits| !limits.is_empty());
        if asked.capabilities().is_none() || !limits {
            let first = first()?;
            let capabilities = asked.capabilities().clone().or_else(|| first.capabilities().clone());
            asked.set_capabilities(capabilities);
            if !limits {
                asked.set_rlimits(first.rlimits().clone());
            }
        }
        return Ok(asked);
    }
    let mut process = first()?;
    process.set_args(Some(args.command.clone())).set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let env = process.env_mut().get_or_insert_default();
    // A later value replaces an earlier one.
    env.retain(|old| !args.env.iter().any(|new| old.split('=').next() == new.split('=').next()));
    env.extend_from_slice(&args.env);
    if let Some(user) = &args.user {
        let (uid, gid) = user.split_once(':').map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let number = |text: &str| text.parse::<u32>().with_context(|| format!("--user {user}: {text:?} is no number"));
        process.user_mut().set_uid(number(uid)?);
        if let Some(gid) = gid {
            process.user_mut().set_gid(number(gid)?);
        }
    }
    if !args.additional_gids.is_empty() {
        process.user_mut().additional_gids_mut().get_or_insert_default().extend_from_slice(&args.additional_gids);
    }
    if !args.cap.is_empty() {
        let sets = process.capabilities().clone();
        process.set_capabilities(Some(with_capabilities(sets, &args.cap).context("--cap")?));
    }
    Ok(process)
}

/// The sets with these capabilities in each but the inheritable one.
fn with_capabilities(sets: Option<LinuxCapabilities>, names: &[String]) -> serde_json::Result<LinuxCapabilities> {
    let more: Capabilities = serde_json::from_value(names.into())?;
    // The type's own default is not empty.
    let mut sets = sets.map_or_else(|| serde_json::from_str("{}"), Ok)?;
    let add = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&more).copied().collect());
    sets.set_bounding(add(sets.bounding()));
    sets.set_effective(add(sets.effective()));
    sets.set_permitted(add(sets.permitted()));
    sets.set_ambient(add(sets.ambient()));
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn capabilities_are_added_to_four_sets() {
        let with = |sets: Value| {
            let sets = serde_json::from_value(sets).unwrap();
            with_capabilities(sets, &["CAP_KILL".to_owned()]).unwrap()
        };
        let wanted = |sets: Value| serde_json::from_value::<LinuxCapabilities>(sets).unwrap();
        let kill = ["CAP_KILL"];
        let all = json!({"bounding": kill, "effective": kill, "permitted": kill, "ambient": kill});
        assert_eq!(with(Value::Null), wanted(all));
        let both = ["CAP_KILL", "CAP_CHOWN"];
        assert_eq!(
            with(json!({"bounding": ["CAP_CHOWN"], "effective": kill, "inheritable": ["CAP_CHOWN"]})),
            wanted(json!({
                "bounding": both, "effective": kill, "permitted": kill, "ambient": kill, "inheritable": ["CAP_CHOWN"],
            })),
        );
    }
}
