//! An HTTP server with the usual mistakes: handlers that block the worker that polls them.
//!
//! It is an ordinary axum program on Tokio's multi_thread runtime and knows nothing of hud. What
//! blocks, and why, is in `blocking`; `/hello` and `/healthy` show how it ought to be.
//!
//! `cargo run --release --example demo-server`, then `cargo run --release --example load`.

mod blocking;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use blocking::Shop;

const ENDPOINTS: &str = "\
Endpoints that block their worker:
  GET  /hash      bcrypt::hash
  GET  /parse     serde_json::from_str of some megabytes
  GET  /compress  flate2 at its best level
  GET  /read      std::fs: write and sync a journal, read it back
  GET  /dns       std::net::ToSocketAddrs
  POST /process   a JSON body such as {\"data\":\"test\"}: std::sync::Mutex and std::thread::sleep

Healthy endpoints:
  GET  /hello     answers at once
  GET  /healthy   bcrypt::hash again, in spawn_blocking

Try: curl -X POST -H 'content-type: application/json' -d '{\"data\":\"test\"}' localhost:3000/process";

/// An HTTP server on loopback whose handlers block their workers.
#[derive(Parser)]
#[command(name = "demo-server", after_help = ENDPOINTS)]
struct Args {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Worker threads of the runtime [default: one per CPU]
    #[arg(long)]
    workers: Option<usize>,
    /// The name that /dns looks up; nobody has the default, which name servers have to say
    #[arg(long, default_value = "backend.test")]
    resolve: String,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = args.workers {
        builder.worker_threads(workers.max(1));
    }
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(serve(args));
    // What is still on the blocking pool is not worth waiting for.
    runtime.shutdown_background();
    result
}

async fn serve(args: Args) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another --port"))?;
    let shop = Arc::new(Shop::open(args.resolve)?);
    let app = Router::new()
        .route("/hash", get(hash))
        .route("/parse", get(parse))
        .route("/compress", get(compress))
        .route("/read", get(read))
        .route("/dns", get(dns))
        .route("/process", post(process))
        .route("/hello", get(hello))
        .route("/healthy", get(healthy))
        .with_state(shop);

    let address = listener.local_addr()?.to_string();
    // A closed pipe is no reason to stop serving.
    let _ = writeln!(
        std::io::stdout(),
        "demo-server: PID {}, http://{address}\n\n{}",
        std::process::id(),
        ENDPOINTS.replace("localhost:3000", &address),
    );
    let (asked, mut told) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        if stop_requested().await.is_ok() {
            asked.send_replace(true);
        }
    });
    let mut stop = told.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    tokio::select! {
        result = server => result.context("the server stopped"),
        // Clients that keep their connections open do not keep the server alive.
        () = async {
            let _ = told.wait_for(|stop| *stop).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        } => Ok(()),
    }
}

/// Waits for Ctrl+C or SIGTERM.
async fn stop_requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

async fn hash() -> String {
    blocking::hash_password("correct horse battery staple")
}

async fn parse(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!({ "items": blocking::parse_catalogue(&shop) }))
}

async fn compress(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!({ "bytes": blocking::compress_catalogue(&shop) }))
}

async fn read(State(shop): State<Arc<Shop>>) -> Json<Value> {
    answer(blocking::read_orders(&shop).map(|bytes| json!({ "bytes": bytes })))
}

async fn dns(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!({ "peers": blocking::resolve_peers(&shop) }))
}

async fn process(State(shop): State<Arc<Shop>>, Json(body): Json<Value>) -> Json<Value> {
    let number = blocking::process_order(&shop, &body);
    Json(json!({ "order": number, "data": body["data"] }))
}

async fn hello() -> &'static str {
    "hello\n"
}

/// The same work as `/hash`, where it holds no worker.
async fn healthy() -> String {
    let hashed = tokio::task::spawn_blocking(|| blocking::hash_password("hunter2")).await;
    hashed.unwrap_or_else(|error| error.to_string())
}

fn answer(result: std::io::Result<Value>) -> Json<Value> {
    Json(result.unwrap_or_else(|error| json!({ "error": error.to_string() })))
}
