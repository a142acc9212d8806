//! Ways to run the same cases: without an ability, or with other options.

use capas::sys::probe::Features;
use capas::union::options::{Fsync, Lazy, Options, RedirectDir, Xino};

/// One way.
#[derive(Clone, Debug)]
pub struct Variant {
    /// What conditions in cases call it: every word of it.
    pub name: String,
    pub options: Options,
    pub features: Features,
}

impl Variant {
    /// Everything on.
    pub fn default_one() -> Variant {
        Variant::named("default")
    }

    /// `+`-separated: an ability's name is one that is absent, `key=value` an
    /// option, `userns` says that this runs in a user namespace, `ramfs` that
    /// the upper lies on a file system without attributes, `catalog` that there
    /// is one of the lowers.
    pub fn named(name: &str) -> Variant {
        let mut options = Options {
            // Syncs are for the fault tests; here they only take time.
            fsync: Fsync::Volatile,
            ..Options::default()
        };
        let mut features = Features::all();
        for word in name.split('+') {
            match word {
                "default" | "userns" | "ramfs" | "catalog" => {}
                "userxattr" => options.userxattr = true,
                "redirect_dir=follow" => options.redirect_dir = RedirectDir::Follow,
                "redirect_dir=off" => options.redirect_dir = RedirectDir::NoFollow,
                "metacopy=off" => options.metacopy = false,
                "index=off" => options.index = false,
                "xino=on" => options.xino = Xino::On,
                "xino=off" => options.xino = Xino::Off,
                // Everything that can be, by as small parts as can be.
                "lazy" => {
                    options.lazy = Some(Lazy {
                        from: 1,
                        chunk: 4096,
                    })
                }
                "fsync=strict" => options.fsync = Fsync::Strict,
                ability => {
                    let lost = Features::named(ability);
                    features = features.without(lost.unwrap_or_else(|| panic!("{ability}")));
                }
            }
        }
        Variant {
            name: name.to_owned(),
            options,
            features,
        }
    }

    /// Does a condition such as `trusted|userns` hold: is one of its words,
    /// or all of a `+`-joined group, part of the name.
    pub fn is(&self, condition: &str) -> bool {
        condition.split('|').any(|group| {
            let mut words = group.split('+');
            words.all(|w| self.name.split('+').any(|n| n == w))
        })
    }

    /// The prefix of marks.
    pub fn family(&self) -> &'static str {
        let user =
            self.options.userxattr || !self.features.has(Features::TRUSTED) || self.is("userns");
        if user {
            "user.overlay."
        } else {
            "trusted.overlay."
        }
    }
}
