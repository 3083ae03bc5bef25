//! Creating a container: from a bundle to a sandbox that waits for its start.

use std::collections::BTreeMap;
use std::env;
use std::io::stderr;
use std::io::{stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use amber_host::channel::Channel;
use amber_host::process::keep_descriptors_from;
use amber_host::terminal::WindowSize;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::{LinuxResources, Process, Spec};

use super::cgroup::{self, ControlGroup};
use super::console::Pair;
use super::control::{Launch, Step, Streams, receive, send};
use super::hooks::{self, Time};
use super::pid_file;
use super::preserved_fds::PreservedFds;
use super::state::{State, Status};
use super::store::Locked;
use super::systemd::Scope;
use super::{ROLE, Runtime};
use crate::bundle::{Bundle, root_path};
use crate::caller;
use crate::cli::CreateArgs;
use crate::launch::has_job_control;

/// The path of this program, also in another root.
pub(crate) const SELF: &str = "/proc/self/exe";

/// A container that has not been started.
pub(crate) struct Created {
    /// The sandbox's process, a child of this one. If the sandbox is attached, it ends with this process.
    pub pid: i32,
    /// Carries the requests of an attached sandbox to stop both processes (job control).
    pub stops: Channel,
}

/// Kills a child of this process and waits for its end.
pub(crate) fn end_child(pid: i32) {
    let pid = Pid::from_raw(pid);
    // It may have ended already.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// Creates a container. If the caller stays `attached` and no console socket is given, the container's terminal is the
/// caller's own.
///
/// # Errors
/// The container cannot be created; nothing of it remains.
pub(crate) fn create(runtime: &Runtime, args: &CreateArgs, attached: bool) -> Result<Created> {
    let preserved = PreservedFds::take(args.preserve_fds, true)?;
    keep_descriptors_from(3).context("closing descriptors")?;
    crate::bundle::check_id(&args.id).context("invalid container ID format")?;
    let mut bundle = Bundle::load(&args.bundle)?;
    if let Some(process) = bundle.spec.process_mut() {
        preserved.tell(process);
    }
    let process = bundle.spec.process().as_ref().context("`process` is missing: there is nothing to run")?;
    let streams = streams(process, args, attached)?;
    let default_size = match streams {
        Streams::Detached => None,
        Streams::Terminal => Some((0, 0)),
        Streams::Attached => caller::terminal(),
    };
    // Report errors of the bundle before anything is made.
    bundle.sandbox(&args.id, runtime.profile.clone(), default_size)?;

    let locked = runtime.store.create(&args.id)?;
    let mut guard = CreateGuard { state: state(&bundle, args)?, locked: Some(locked), child: None, hooked: false };
    let created = guard.all(runtime, args, &bundle, (streams, &preserved))?;
    guard.locked = None;
    Ok(created)
}

fn streams(process: &Process, args: &CreateArgs, attached: bool) -> Result<Streams> {
    let terminal = process.terminal().unwrap_or(false);
    ensure!(
        terminal || args.console_socket.is_none(),
        "cannot use console socket if runc will not detach or allocate tty"
    );
    Ok(match (terminal, attached) {
        (true, _) if args.console_socket.is_some() => Streams::Terminal,
        (true, false) => bail!("cannot allocate tty if runc will detach without setting console socket"),
        (_, true) => Streams::Attached,
        (false, false) => Streams::Detached,
    })
}

fn state(bundle: &Bundle, args: &CreateArgs) -> Result<State> {
    let spec = &bundle.spec;
    let root = spec.root().as_ref().context("`root` is missing")?;
    let annotations: BTreeMap<_, _> = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    Ok(State {
        oci_version: spec.version().clone(),
        id: args.id.clone(),
        pid: 0,
        process_start: 0,
        status: Status::Creating,
        paused: false,
        rootfs: root_path(&bundle.directory, root),
        bundle: bundle.directory.clone(),
        created: State::now(),
        owner: geteuid().as_raw(),
        annotations,
        cgroup: None,
        hooks: spec.hooks().clone(),
    })
}

/// A container being created. Dropping it undoes everything, unless creation was completed.
struct CreateGuard {
    state: State,
    locked: Option<Locked>,
    child: Option<i32>,
    hooked: bool,
}

impl CreateGuard {
    fn all(
        &mut self,
        runtime: &Runtime,
        args: &CreateArgs,
        bundle: &Bundle,
        (streams, preserved): (Streams, &PreservedFds),
    ) -> Result<Created> {
        let spec = &bundle.spec;
        self.save()?;
        self.make_cgroup(runtime, spec)?;
        let size = spec.process().as_ref().and_then(|process| process.console_size());
        let size = size.map_or_else(WindowSize::default, |size| WindowSize {
            rows: u16::try_from(size.height()).unwrap_or(0),
            columns: u16::try_from(size.width()).unwrap_or(0),
            ..WindowSize::default()
        });
        let pair = match (&args.console_socket, streams) {
            (Some(socket), Streams::Terminal) => Some(Pair::make(socket, size)?),
            _ => None,
        };

        let listener = self.locked()?.listen().context("making the control socket")?;
        let (ours, theirs) = Channel::pair().context("making a socket")?;
        let first = self.spawn(spec, theirs)?;
        self.state.set_process(first);
        self.enter_cgroup(runtime, spec, first)?;
        let oom_score = spec.process().as_ref().and_then(|process| process.oom_score_adj());
        if let Some(score) = oom_score
            && let Err(error) = std::fs::write(format!("/proc/{first}/oom_score_adj"), score.to_string())
        {
            // Lowering the score takes a privilege. runc ignores this error in a user namespace as well.
            log::info!("oom_score_adj {score}: {error}");
        }
        self.save()?;

        let launch = Launch {
            global: absolute(runtime)?,
            id: args.id.clone(),
            bundle: bundle.directory.clone(),
            spec: spec.clone(),
            streams,
            job_control: streams == Streams::Attached && has_job_control(),
        };
        let (input, output, errors) = (stdin(), stdout(), stderr());
        let mut files: Vec<BorrowedFd<'_>> = vec![input.as_fd(), output.as_fd(), errors.as_fd(), listener.as_fd()];
        files.extend(pair.as_ref().map(|pair| pair.slave.as_fd()));
        files.extend(preserved.files());
        send(&ours, &launch, &files)?;
        let Step::Namespaces(pid) = next(&ours)? else { bail!("the sandbox is out of step") };
        if pid != first {
            // With a PID namespace, another process replaced the first one.
            self.child = Some(pid);
            self.state.set_process(pid);
            self.save()?;
            waitpid(Pid::from_raw(first), None).context("waiting for the sandbox")?;
        }
        self.hooked = true;
        hooks::run(&self.state, Status::Creating, Time::Create, None)
            .context("unable to start container process: error during container init")?;
        send(&ours, &Step::Hooked(hooks::text(&self.state, Status::Creating)?), &[])?;
        let Step::Ready = next(&ours)? else { bail!("the sandbox is out of step") };
        pair.map_or(Ok(()), Pair::send)?;
        pid_file::write(pid, args.pid_file.as_ref(), args.pidfd_socket.as_ref())?;
        self.state.status = Status::Created;
        self.save()?;
        send(&ours, &Step::Go, &[])?;
        Ok(Created { pid, stops: ours })
    }

    fn locked(&self) -> Result<&Locked> {
        self.locked.as_ref().context("the container")
    }

    fn save(&self) -> Result<()> {
        self.locked()?.save(&self.state)
    }

    /// Makes the control group. With systemd, this happens later, as systemd needs the process.
    fn make_cgroup(&mut self, runtime: &Runtime, spec: &Spec) -> Result<()> {
        if runtime.global.systemd_cgroup {
            return Ok(());
        }
        let (path, resources) = group_of(spec);
        match ControlGroup::make(path, &self.state.id, &resources) {
            Err(error) if runtime.is_rootless() && cgroup::is_forbidden(&error) => {
                log::info!("no control group: {error:#}");
                Ok(())
            }
            Err(error) => Err(error.context("unable to apply cgroup configuration")),
            Ok(group) => {
                self.state.cgroup = group;
                self.save()
            }
        }
    }

    /// Puts the sandbox's process into its control group.
    fn enter_cgroup(&mut self, runtime: &Runtime, spec: &Spec, pid: i32) -> Result<()> {
        let entered = if runtime.global.systemd_cgroup {
            let (path, resources) = group_of(spec);
            let (id, annotations) = (self.state.id.clone(), self.state.annotations.clone());
            let path = path.map(|path| path.to_string_lossy());
            Scope::named(path.as_deref(), &id, runtime.is_rootless()).and_then(|scope| {
                ControlGroup::start(scope, pid, &id, &annotations, &resources, |group| {
                    self.state.cgroup = Some(group);
                    self.save()
                })
            })
        } else {
            let add = |group: &ControlGroup| group.place.add(pid).with_context(|| format!("putting process {pid} in"));
            self.state.cgroup.as_ref().map_or(Ok(()), add)
        };
        entered.context("unable to apply cgroup configuration")
    }

    /// Starts the sandbox's process. Its command line is the guest's, so that lists of the host's processes show what
    /// it runs.
    fn spawn(&mut self, spec: &Spec, channel: Channel) -> Result<i32> {
        let arguments = spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default();
        let mut arguments = arguments.into_iter();
        let mut command = Command::new(SELF);
        command.arg0(arguments.next().unwrap_or_else(|| "amber".to_owned())).args(arguments);
        command.env_clear().env(ROLE, "sandbox");
        command.stdin(Stdio::from(OwnedFd::from(channel)));
        let child = command.spawn().context("starting the sandbox")?;
        let pid = child.id() as i32;
        self.child = Some(pid);
        Ok(pid)
    }
}

impl Drop for CreateGuard {
    fn drop(&mut self) {
        let Some(locked) = self.locked.take() else { return };
        if let Some(pid) = self.child.take() {
            end_child(pid);
        }
        if let Some(group) = &self.state.cgroup
            && let Err(error) = group.remove()
        {
            log::warn!("{error:#}");
        }
        if self.hooked
            && let Err(error) = hooks::run(&self.state, Status::Stopped, Time::Stopped, None)
        {
            log::warn!("{error:#}");
        }
        if let Err(error) = locked.remove() {
            log::warn!("{error:#}");
        }
    }
}

/// The path and the limits of the control group, from a bundle.
fn group_of(spec: &Spec) -> (Option<&Path>, LinuxResources) {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref()).filter(|path| !path.as_os_str().is_empty());
    (path, linux.and_then(|linux| linux.resources().clone()).unwrap_or_default())
}

/// The flags with absolute paths, for a process with another working directory.
fn absolute(runtime: &Runtime) -> Result<crate::cli::GlobalArgs> {
    let mut global = runtime.global.clone();
    let here = env::current_dir().unwrap_or_default();
    for path in [&mut global.log, &mut global.metrics].into_iter().flatten() {
        *path = here.join(&path);
    }
    Ok(global)
}

/// Waits for the next step of the sandbox.
fn next(channel: &Channel) -> Result<Step> {
    match receive::<Step>(channel)? {
        Some((Step::Failed(failure), _)) => Err(failure.into()),
        Some((step, _)) => Ok(step),
        None => Err(anyhow!("the sandbox ended before it was ready")),
    }
}
