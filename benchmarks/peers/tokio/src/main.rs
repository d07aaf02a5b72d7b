//! tokio-util's LengthDelimitedCodec as an echo server, on one thread: what Rust people would write.
//!
//! `echo each` sends frame by frame, so that every frame is a write; `echo idle` writes when no whole frame is left.

use futures::{FutureExt, SinkExt, StreamExt};
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

async fn each(stream: TcpStream) -> io::Result<()> {
    let mut frames = Framed::new(stream, LengthDelimitedCodec::new());
    while let Some(frame) = frames.next().await {
        frames.send(frame?.freeze()).await?;
    }
    Ok(())
}

async fn idle(stream: TcpStream) -> io::Result<()> {
    let mut frames = Framed::new(stream, LengthDelimitedCodec::new());
    loop {
        let next = match frames.next().now_or_never() {
            Some(next) => next,
            None => {
                frames.flush().await?;
                frames.next().await
            }
        };
        match next {
            Some(frame) => frames.feed(frame?.freeze()).await?,
            None => return frames.flush().await,
        }
    }
}

async fn serve(by_frame: bool) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        if by_frame {
            tokio::task::spawn_local(each(stream));
        } else {
            tokio::task::spawn_local(idle(stream));
        }
    }
}

fn main() -> io::Result<()> {
    let by_frame = std::env::args().nth(1).as_deref() == Some("each");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(by_frame))
}
