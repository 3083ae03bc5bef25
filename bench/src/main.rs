//! Measures what isolation costs: the same work natively, in Amber, in crun and runc, and in gVisor.
//!
//! All contenders take turns, round by round, so that whatever else the machine does meets all of them; the table shows
//! medians. A second table has how often guest code is left in Amber, which is most of what it costs. A table of its own
//! (`--slopes`) has how costs grow with the number of things a program keeps.

mod bundle;
mod contender;
mod docker;
mod exits;
mod memory;
mod report;
mod rows;
mod run;
mod slopes;
mod work;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::unistd::Uid;

use crate::contender::{Contender, Runtime};
use crate::docker::Docker;
use crate::rows::Row;
use crate::work::Workspace;

/// Measures what isolation costs: native, Amber, crun and gVisor side by side.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    /// How often every contender has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each small operation is repeated in one turn
    #[arg(long, default_value_t = 100)]
    milliseconds: u64,
    /// Where the picture goes
    #[arg(long, value_name = "FILE", default_value = "target/bench.svg")]
    svg: PathBuf,
    /// Another build of `amber`, best made by `cargo static`, to compare this one with
    #[arg(long, value_name = "AMBER")]
    before: Option<PathBuf>,
    /// Contenders to leave out
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    without: Vec<String>,
    /// Only measure how costs grow with the number of things a program keeps, natively and in Amber
    #[arg(long)]
    slopes: bool,
    /// Only count exits, with this `amber` on this platform and this guest program, compiled elsewhere; the status is not
    /// 0 if an operation has more than it may
    #[arg(long, num_args = 3, value_names = ["AMBER", "PLATFORM", "MICRO"])]
    exits_of: Option<Vec<PathBuf>>,
}

/// All samples: row → contender → values.
type Samples = HashMap<&'static str, HashMap<String, Vec<f64>>>;

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("amber-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what the arguments choose and prints the tables.
fn measure(args: &Args) -> Result<()> {
    if let Some([amber, platform, micro]) = args.exits_of.as_deref() {
        return count_exits(amber, &platform.to_string_lossy(), micro);
    }
    ensure!(args.rounds > 0 && args.milliseconds > 0, "--rounds and --milliseconds must be above zero");
    let workspace = Workspace::prepare()?;
    if args.slopes {
        return slopes::measure(&workspace, &args.without);
    }
    let mut contenders = Vec::new();
    for contender in contender::all(&workspace, args.before.as_deref())? {
        if args.without.iter().any(|name| name == contender.name()) {
            continue;
        }
        match contender.try_out(workspace.micro()) {
            Ok(()) => contenders.push(contender),
            Err(error) => println!("left out: {}: {error:#}", contender.name()),
        }
    }
    let mut samples = Samples::new();
    for round in 1..=args.rounds {
        for contender in &contenders {
            eprintln!("round {round} of {}: {}", args.rounds, contender.name());
            turn(contender, &workspace, args.milliseconds, &mut samples);
        }
    }
    if Uid::effective().is_root() {
        containers(args, &contenders, &workspace, &mut samples)?;
    } else {
        println!("left out: containers, which need root");
    }
    let counts = exits::count(&contenders, &workspace.micro());
    let names: Vec<&str> = contenders.iter().map(Contender::name).collect();
    report::table(&names, &samples);
    exits::table(&names, &counts);
    report::picture(&args.svg, &names, &samples).with_context(|| args.svg.display().to_string())?;
    println!("\nThe picture is in {}.", args.svg.display());
    Ok(())
}

/// Counts exits where nothing else can be measured.
fn count_exits(amber: &Path, platform: &str, micro: &Path) -> Result<()> {
    let contender = Contender::amber(amber, platform);
    let names = [contender.name().to_string()];
    let counts = exits::count(&[contender], &micro.into());
    exits::table(&names.each_ref().map(String::as_str), &counts);
    let missed = exits::missed(&counts);
    ensure!(missed.is_empty(), "more exits than there may be, or none counted: {}", missed.join(", "));
    Ok(())
}

/// What containers cost, made by the runtimes themselves and by Docker.
fn containers(args: &Args, contenders: &[Contender], workspace: &Workspace, samples: &mut Samples) -> Result<()> {
    let runtimes: Vec<(&str, Runtime)> =
        contenders.iter().filter_map(|contender| Some((contender.name(), contender.runtime()?))).collect();
    let mut note = |row: &'static str, name: &str, value: Result<f64>| match value {
        Ok(value) => samples.entry(row).or_default().entry(name.into()).or_default().push(value),
        Err(error) => println!("{name}: {row}: {error:#}"),
    };
    for (name, runtime) in &runtimes {
        note(
            "size of the program",
            name,
            std::fs::metadata(&runtime.words[0]).map(|file| file.len() as f64).map_err(Into::into),
        );
    }
    let directory = workspace.directory("containers")?;
    for round in 1..=args.rounds {
        for (name, runtime) in &runtimes {
            eprintln!("containers, round {round} of {}: {name}", args.rounds);
            match bundle::measure(runtime, &directory, &workspace.micro()) {
                Ok(costs) => {
                    note("create+start", name, Ok(costs.start));
                    note("container of `true`", name, Ok(costs.life));
                    note("exec `true`", name, Ok(costs.exec));
                    note("container memory", name, Ok(costs.memory));
                }
                Err(error) => println!("{name}: containers: {error:#}"),
            }
        }
    }
    let named: Vec<_> =
        runtimes.iter().map(|(name, runtime)| (name.replace(' ', "-"), runtime.words.clone())).collect();
    // Docker knows runc of itself.
    let others: Vec<_> = named.iter().filter(|(name, _)| name != "runc").cloned().collect();
    let docker = match Docker::start(&workspace.directory("docker")?, &others) {
        Ok(docker) => docker,
        Err(error) => {
            println!("left out: Docker: {error:#}");
            return Ok(());
        }
    };
    // The daemon's first container takes much longer than all others, whatever runs it.
    for (known, _) in &named {
        if let Err(error) = docker.run_true(known) {
            println!("{known}: the first container: {error:#}");
        }
    }
    for round in 1..=args.rounds {
        for ((name, _), (known, _)) in runtimes.iter().zip(&named) {
            eprintln!("Docker, round {round} of {}: {name}", args.rounds);
            note("docker run `true`", name, docker.run_true(known));
            note("nginx request", name, docker.nginx(known));
            note("redis GET", name, docker.redis(known));
        }
    }
    Ok(())
}

/// One contender's turn in one round. What fails is said and leaves a gap in the table.
fn turn(contender: &Contender, workspace: &Workspace, milliseconds: u64, samples: &mut Samples) {
    let mut note = |row: &'static str, value: Result<f64>| match value {
        Ok(value) => samples.entry(row).or_default().entry(contender.name().into()).or_default().push(value),
        Err(error) => println!("{}: {row}: {error:#}", contender.name()),
    };
    let micro = workspace.micro();
    match contender.micro(&[micro.clone(), "all".into(), milliseconds.to_string().into()]) {
        Ok(results) => {
            for (name, value) in results {
                if let Some(row) = Row::all().iter().find(|row| row.name == name) {
                    note(row.name, Ok(value));
                }
            }
        }
        Err(error) => println!("{}: small operations: {error:#}", contender.name()),
    }
    note("start `true`", contender.start(&["true".into()]));
    for (row, command) in [("find in 10,000 files", workspace.find()), ("build a C project", workspace.build())] {
        let mut timed = vec![micro.clone(), "time".into()];
        timed.extend(command);
        let time = contender
            .micro(&timed)
            .and_then(|results| results.into_iter().next().map(|(_, value)| value).context("printed no time"));
        note(row, time);
    }
    match contender.idle(&micro) {
        Ok(idle) => {
            note("idle memory", Ok(idle.memory));
            note("idle CPU", Ok(idle.cpu));
        }
        Err(error) => println!("{}: idle: {error:#}", contender.name()),
    }
}
