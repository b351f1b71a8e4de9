//! What CVS ignores: rsync's own list, the user's file, a variable.

use std::sync::OnceLock;

use crate::error::FilterError;
use crate::flags::Flags;
use crate::list::List;
use crate::parse::{Draft, Mode, Parser, RuleFiles, Settings};
use crate::rule::Rule;

/// The list behind a rule with `C`.
#[derive(Debug, Default)]
pub(crate) struct Cvs {
    pub(crate) rules: Vec<Rule>,
    pub(crate) list: List,
}

impl Cvs {
    /// Reads it. `flags` are those of the rule that asks for it first.
    ///
    /// Peer: rsync exclude.c, `get_cvs_excludes`.
    pub(crate) fn load(
        settings: &Settings,
        files: &mut dyn RuleFiles,
        flags: Flags,
    ) -> Result<Cvs, FilterError> {
        let mut draft = Draft::default();
        let mode = Mode { container: flags, ..Mode::default() };
        let mut parser = Parser {
            settings,
            files,
            cvs: &OnceLock::new(),
            draft: &mut draft,
            here: None,
            warnings: &mut Vec::new(),
            depth: 0,
            place: None,
        };
        parser.text(DEFAULT, Mode { container: flags | Flags::PERISHABLE, ..mode })?;
        if let Some(file) = &settings.cvsignore {
            parser.file(file, mode)?;
        }
        parser.text(settings.cvsignore_variable.as_deref().unwrap_or_default(), mode)?;
        Ok(Cvs { list: List::new(&draft.rules), rules: draft.rules })
    }
}

/// rsync's manual page, option `--cvs-exclude`.
const DEFAULT: &[u8] = b"RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* _$* *$ \
    *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ .bzr/";
