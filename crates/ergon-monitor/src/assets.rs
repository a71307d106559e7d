//! Styles, scripts and pictures: part of the program, under names that change with their content.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};

use crate::error::PageError;

/// A file of ours.
#[derive(Debug)]
pub(crate) struct Asset {
    stem: &'static str,
    extension: &'static str,
    media_type: &'static str,
    content: &'static [u8],
    digest: LazyLock<[u8; 32]>,
}

macro_rules! asset {
    ($(#[$doc:meta])* $name:ident, $stem:literal, $extension:literal, $media_type:literal) => {
        $(#[$doc])*
        pub(crate) static $name: Asset = Asset {
            stem: $stem,
            extension: $extension,
            media_type: $media_type,
            content: include_bytes!(concat!("../assets/", $stem, ".", $extension)),
            digest: LazyLock::new(|| {
                Sha256::digest(include_bytes!(concat!("../assets/", $stem, ".", $extension))).into()
            }),
        };
    };
}

asset!(
    /// How pages look.
    CSS, "ergon", "css", "text/css; charset=utf-8"
);
asset!(
    /// What pages do where there are scripts.
    JS, "ergon", "js", "text/javascript; charset=utf-8"
);
asset!(
    /// How pages are told of changes.
    LIVE, "live", "js", "text/javascript; charset=utf-8"
);
asset!(
    /// The picture beside the title.
    ICON, "icon", "svg", "image/svg+xml"
);

impl Asset {
    /// The name with a part that no other content has.
    fn name(&self) -> String {
        let hash = hex::encode(self.digest.first_chunk::<8>().unwrap_or(&[0; 8]));
        format!("{}.{hash}.{}", self.stem, self.extension)
    }

    /// Its path behind the base path.
    pub(crate) fn path(&self) -> String {
        format!("/static/{}", self.name())
    }

    /// What the browser checks it by.
    pub(crate) fn integrity(&self) -> String {
        format!("sha256-{}", STANDARD.encode(*self.digest))
    }
}

/// Answers a file of ours, for ever: another content has another name.
pub(crate) async fn serve(Path(name): Path<String>) -> Result<Response, PageError> {
    let found = [&CSS, &JS, &LIVE, &ICON].into_iter().find(|asset| asset.name() == name);
    let asset = found.ok_or_else(|| PageError::NotFound("There is no such file.".to_owned()))?;
    let headers =
        [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.content).into_response())
}
