//! Reads the body of a response, and decodes it: RFC 9110, section 8.4.1.

use std::io::{BufRead, BufReader, Cursor, Read};

use ::http::header::CONTENT_ENCODING;
use ::http::{HeaderMap, HeaderValue};
use bytes::{Buf, Bytes};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use ruzstd::decoding::StreamingDecoder;

/// What [`decode`] reads.
pub const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip, br, zstd, deflate");

/// The most codings that may be applied one over the other.
const MAX_CODINGS: usize = 3;
const STEP: usize = 32 * 1024;
/// After so many steps other tasks get their turn.
const STEPS_AT_ONCE: usize = 16;
/// The window that a decoder of zstd must have for HTTP (RFC 9659).
const ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

type Source = Box<dyn Read + Send>;

#[derive(Debug)]
pub enum BodyError {
    TooLarge,
    Invalid(String),
}

/// Reads a body of at most `limit` bytes, encoded and decoded.
pub async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let codings = codings(headers).map_err(BodyError::Invalid)?;
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Invalid(super::causes_of(&error)))?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        if first.len().max(all.len()) + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        // Most bodies come in one piece, which is not copied.
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&chunk);
    }
    let raw = match all.is_empty() {
        true => first,
        false => all.into(),
    };
    match codings.is_empty() || raw.is_empty() {
        true => Ok(raw),
        false => decode(raw, &codings, limit).await,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings in the order in which they were applied.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, String> {
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in String::from_utf8_lossy(value.as_bytes()).split(',') {
            found.push(match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                other => return Err(format!("the content coding \"{other}\" is not supported")),
            });
        }
    }
    match found.len() > MAX_CODINGS {
        true => Err(format!("more than {MAX_CODINGS} content codings")),
        false => Ok(found),
    }
}

async fn decode(raw: Bytes, codings: &[Coding], limit: usize) -> Result<Bytes, BodyError> {
    let invalid =
        |error: std::io::Error| BodyError::Invalid(format!("the body cannot be decoded: {error}"));
    let mut source: Source = Box::new(raw.reader());
    for coding in codings.iter().rev() {
        source = decoder(*coding, source, limit).map_err(invalid)?;
    }
    let mut decoded = Vec::new();
    let mut step = vec![0; STEP];
    for number in 1_usize.. {
        let count = source.read(&mut step).map_err(invalid)?;
        if count == 0 {
            break;
        }
        if decoded.len() + count > limit {
            return Err(BodyError::TooLarge);
        }
        decoded.extend_from_slice(&step[..count]);
        if number.is_multiple_of(STEPS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    Ok(decoded.into())
}

fn decoder(coding: Coding, mut source: Source, limit: usize) -> std::io::Result<Source> {
    Ok(match coding {
        Coding::Gzip => Box::new(MultiGzDecoder::new(source)),
        Coding::Brotli => Box::new(brotli::Decompressor::new(source, STEP)),
        Coding::Zstd => Box::new(Zstd::Next {
            source: BufReader::new(source),
            window: ZSTD_WINDOW.max(limit as u64),
        }),
        Coding::Deflate => {
            // It means the zlib format, but some servers leave out its head, and
            // browsers accept that.
            let mut head = Vec::with_capacity(2);
            source.by_ref().take(2).read_to_end(&mut head)?;
            let is_zlib = matches!(head[..], [method, flags]
                if method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0);
            let source = Read::chain(Cursor::new(head), source);
            match is_zlib {
                true => Box::new(ZlibDecoder::new(source)),
                false => Box::new(DeflateDecoder::new(source)),
            }
        }
    })
}

/// Decodes zstd frames, one after the other.
enum Zstd {
    /// Between two frames.
    Next {
        source: BufReader<Source>,
        window: u64,
    },
    Frame {
        decoder: Box<StreamingDecoder<BufReader<Source>, ruzstd::decoding::FrameDecoder>>,
        window: u64,
    },
    Ended,
}

impl Read for Zstd {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Ended) {
                Self::Ended => return Ok(0),
                Self::Next { mut source, window } => {
                    if source.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let decoder = StreamingDecoder::new_with_max_window_size(source, window)
                        .map_err(std::io::Error::other)?;
                    let decoder = Box::new(decoder);
                    *self = Self::Frame { decoder, window };
                }
                Self::Frame {
                    mut decoder,
                    window,
                } => {
                    let count = decoder.read(out)?;
                    if count > 0 || out.is_empty() {
                        *self = Self::Frame { decoder, window };
                        return Ok(count);
                    }
                    let source = decoder.into_inner();
                    *self = Self::Next { source, window };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"{\"data\":{\"a\":1}}";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = ::brotli::CompressorWriter::new(&mut out, 4_096, 9, 22);
        encoder.write_all(bytes).unwrap();
        drop(encoder);
        out
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn head(values: &[&'static str]) -> HeaderMap {
        let values = values.iter().map(|value| {
            let value = HeaderValue::from_static(value);
            (CONTENT_ENCODING, value)
        });
        values.collect()
    }

    async fn decoded(
        values: &[&'static str],
        raw: Vec<u8>,
        limit: usize,
    ) -> Result<Bytes, BodyError> {
        let codings = codings(&head(values)).map_err(BodyError::Invalid)?;
        decode(raw.into(), &codings, limit).await
    }

    #[tokio::test]
    async fn every_coding_is_decoded() {
        let twice = [gzip(&TEXT[..5]), gzip(&TEXT[5..])].concat();
        let frames = [zstd(&TEXT[..5]), zstd(&TEXT[5..])].concat();
        let cases: [(&[&str], Vec<u8>); 12] = [
            (&["gzip"], gzip(TEXT)),
            (&["x-gzip"], gzip(TEXT)),
            (&[" GZIP "], gzip(TEXT)),
            (&["gzip"], twice),
            (&["deflate"], zlib(TEXT)),
            (&["deflate"], raw_deflate(TEXT)),
            (&["br"], brotli(TEXT)),
            (&["zstd"], zstd(TEXT)),
            (&["zstd"], frames),
            (&["identity", "gzip"], gzip(TEXT)),
            (&["br, gzip"], gzip(&brotli(TEXT))),
            (&["zstd", "deflate"], zlib(&zstd(TEXT))),
        ];
        for (values, raw) in cases {
            let read = decoded(values, raw, 100).await.unwrap();
            assert_eq!(read, TEXT, "{values:?}");
        }
    }

    #[tokio::test]
    async fn what_grows_beyond_the_limit_is_too_large() {
        let zeros = vec![0; 4 * 1024 * 1024];
        let cases = [
            ("gzip", gzip(&zeros)),
            ("deflate", zlib(&zeros)),
            ("deflate", raw_deflate(&zeros)),
            ("br", brotli(&zeros)),
            ("zstd", zstd(&zeros)),
            ("gzip, gzip", gzip(&gzip(&zeros))),
        ];
        for (coding, raw) in cases {
            assert!(raw.len() < 40_000, "{coding}: {}", raw.len());
            let read = decoded(&[coding], raw, 1_000_000).await;
            assert!(matches!(read, Err(BodyError::TooLarge)), "{coding}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_decoded_is_invalid() {
        for coding in ["gzip", "zstd", "br", "compress", "gzip, gzip, gzip, gzip"] {
            let read = decoded(&[coding], TEXT.to_vec(), 100).await;
            assert!(matches!(read, Err(BodyError::Invalid(_))), "{coding}");
        }
    }
}
