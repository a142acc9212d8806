//! One stage: its base, and one instruction after the other.

use super::dockerfile::{self, Instruction, Kind};
use super::scope::{Scope, arg_words};
use super::tree::Tree;
use super::{Build, at_line, plan};
use crate::container::changes::image::Image as Layers;
use crate::container::create::DEFAULT_PATH;
use crate::store::change::{Changer, Words, list};
use crate::store::digest::Digest;
use crate::store::document::Platform;
use crate::store::error::{Result, invalid, show};
use crate::store::layer::{LayerRecord, mounted};
use crate::store::load::{Loaded, MakingStep, NewImage};
use crate::store::steps::StepRecord;
use crate::store::{time, to_json};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::time::Instant;

/// A stage that was built so far.
#[derive(Debug)]
pub struct Built<'a> {
    /// The image that it would be.
    pub image: NewImage<'a>,
    /// How it is run, which goes into its configuration.
    pub run: Map<String, Value>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// The variables that it knows.
    pub scope: Scope,
    /// Reads its instructions.
    pub changer: Changer,
}

impl<'a> Built<'a> {
    fn new(mut image: NewImage<'a>, layers: Vec<LayerRecord>, changer: Changer) -> Built<'a> {
        let mut run = match image.config.remove("config") {
            Some(Value::Object(run)) => run,
            _ => Map::new(),
        };
        // As for docker `$PATH` is what commands search, also where the base does
        // not say it.
        let mut env = list(&run, "Env");
        if !env.iter().any(|e| e.starts_with("PATH=")) {
            env.push(DEFAULT_PATH.to_owned());
            run.insert("Env".to_owned(), env.into());
        }
        Built {
            image,
            run,
            layers,
            scope: Scope::default(),
            changer,
        }
    }

    /// A string of that, empty if it is not there.
    pub fn told(&self, key: &str) -> String {
        let value = self.run.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    }

    /// How words are read now.
    pub fn words(&self) -> Words {
        self.changer.words(&self.run)
    }

    /// Where relative paths begin.
    pub fn dir(&self) -> String {
        match self.told("WorkingDir") {
            dir if dir.is_empty() => "/".to_owned(),
            dir => dir,
        }
    }
}

impl<'a> Build<'a> {
    /// Build a stage, whose base is another if `base` says so.
    pub(super) fn stage(&mut self, at: usize, base: Option<usize>, several: bool) -> Result<()> {
        let Some(stage) = self.file.stages.get(at) else {
            return invalid("there is no such stage");
        };
        let here = |e| at_line(self.sources, stage.line, e);
        let words = self.globals.words(&self.given, self.file.escape);
        let name = words.expand(&stage.base).map_err(here)?;
        let platform = match &stage.platform {
            Some(text) => Some(
                words
                    .expand(text)
                    .and_then(|t| Platform::parse(&t))
                    .map_err(here)?,
            ),
            None => None,
        };
        let called = match (&stage.name, several) {
            (Some(name), true) => Some(name.clone()),
            (None, true) => Some(format!("stage-{at}")),
            (_, false) => None,
        };
        let mut steps = 1 + stage.instructions.len();
        self.tell
            .begin(called.as_deref(), (1, steps), &format!("FROM {name}"))?;
        let begun = Instant::now();
        let mut built = self
            .begin(&name, base, platform.as_ref())
            .map_err(|e| at_line(self.sources, stage.line, e))?;
        self.tell.end(Some(begun.elapsed()))?;
        let mut instructions: Vec<Instruction> = Vec::new();
        for text in list(&built.run, "OnBuild") {
            instructions.push(dockerfile::parse_trigger(&text, self.file.escape)?);
        }
        built.run.remove("OnBuild");
        steps += instructions.len();
        instructions.extend(stage.instructions.iter().cloned());
        for (n, instruction) in instructions.iter().enumerate() {
            self.tell
                .begin(called.as_deref(), (n + 2, steps), &instruction.text)?;
            self.instruction(at, &mut built, instruction)
                .map_err(|e| at_line(self.sources, instruction.line, e))?;
        }
        self.built.insert(at, built);
        Ok(())
    }

    /// What a stage begins with.
    fn begin(
        &mut self,
        name: &str,
        base: Option<usize>,
        platform: Option<&Platform>,
    ) -> Result<Built<'a>> {
        let store = self.containers.store();
        if let Some(earlier) = base.and_then(|at| self.built.get(&at)) {
            let (image, layers) = (earlier.image.branch()?, earlier.layers.clone());
            // The variables that it knows are known here too.
            let mut changer = self.changer();
            changer.args = earlier.scope.set();
            return Ok(Built {
                run: earlier.run.clone(),
                scope: earlier.scope.clone(),
                ..Built::new(image, layers, changer)
            });
        }
        let (image, layers) = if name == "scratch" {
            let mut image = store.new_image(None)?;
            let platform = platform.unwrap_or(&self.platform);
            image
                .config
                .insert("os".to_owned(), platform.os.clone().into());
            let architecture = platform.architecture.clone();
            image
                .config
                .insert("architecture".to_owned(), architecture.into());
            if let Some(variant) = &platform.variant {
                image
                    .config
                    .insert("variant".to_owned(), variant.clone().into());
            }
            (image, Vec::new())
        } else {
            if name.is_empty() {
                return invalid("FROM needs a name: a variable in it is empty");
            }
            let found = self.image(name, platform)?;
            let (config, _) = store.image_config(&found.id)?;
            (store.new_image(Some(&found))?, store.image_layers(&config)?)
        };
        Ok(Built::new(image, layers, self.changer()))
    }

    fn changer(&self) -> Changer {
        Changer::new(self.file.escape)
    }

    fn instruction(
        &mut self,
        at: usize,
        built: &mut Built<'a>,
        instruction: &Instruction,
    ) -> Result<()> {
        let begun = Instant::now();
        match &instruction.kind {
            Kind::Copy(copy) => return self.copy(at, built, instruction, copy),
            Kind::Run(run) => return self.run(at, built, run),
            Kind::Arg(rest) => {
                let words = arg_words(&built.words(), rest)?;
                built.scope.declare(words, &self.given, Some(&self.globals));
                built.changer.args = built.scope.set();
            }
            Kind::Maintainer(name) => {
                built
                    .image
                    .config
                    .insert("author".to_owned(), name.clone().into());
            }
            Kind::Config(keyword, rest) => {
                built.changer.apply(&mut built.run, keyword, rest)?;
                if keyword == "WORKDIR" {
                    return self.workdir(built, instruction);
                }
            }
        }
        note(built, &instruction.text, "", None);
        self.tell.end(Some(begun.elapsed()))
    }

    /// What the layers of a stage show.
    pub(super) fn tree(&self, layers: &[LayerRecord]) -> Result<Tree> {
        let store = self.containers.store();
        let dirs: Vec<_> = mounted(layers).iter().map(|l| store.layer_dir(l)).collect();
        Ok(Tree::Layers(Layers::open(&dirs)?))
    }

    /// The files of another stage or image.
    pub(super) fn tree_of(&mut self, at: usize, name: &str) -> Result<Tree> {
        if let Some(stage) = plan::stage_called(&self.file.stages, name, at) {
            // A stage's name never means an image.
            return match self.built.get(&stage) {
                Some(built) => self.tree(&built.layers),
                None => invalid(format!(
                    "the stage {} is not built: write its name without variables and quotes",
                    show(name.as_bytes())
                )),
            };
        }
        let image = self.image(name, None)?;
        let store = self.containers.store();
        let (config, _) = store.image_config(&image.id)?;
        self.tree(&store.image_layers(&config)?)
    }

    /// Seconds since 1970, for what is made now.
    pub(super) fn now(&self) -> i64 {
        self.latest.unwrap_or_else(|| time::now().0)
    }

    /// The name of a step on what is built so far.
    pub(super) fn name(&self, built: &Built<'_>, what: &Value) -> Result<Digest> {
        let all =
            json!({"version": 1, "on": built.image.chain(), "latest": self.latest, "what": what});
        Ok(Digest::of(&to_json(&all)?))
    }

    /// Go on with what a step made before, if that is known.
    pub(super) fn recall(
        &self,
        built: &mut Built<'a>,
        name: &Digest,
        made_by: &str,
    ) -> Result<bool> {
        let store = self.containers.store();
        let Some((record, tree)) = store.find_step(name).filter(|_| !self.options.no_cache) else {
            return Ok(false);
        };
        if let Some(layer) = &record.layer {
            built.image.adopt(layer);
            built.layers.extend(tree);
        }
        note(
            built,
            made_by,
            &record.created,
            record.layer.map(|l| l.diff_id),
        );
        Ok(true)
    }

    /// Add what a step has made, and write it down.
    pub(super) fn add(
        &mut self,
        built: &mut Built<'a>,
        name: &Digest,
        made_by: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let made = built.image.add_layer(write)?;
        if made.is_some() {
            built.layers = built.image.keep()?;
        }
        let created = match self.latest {
            Some(latest) => time::format(latest, 0),
            None => {
                let (seconds, nanos) = time::now();
                time::format(seconds, nanos)
            }
        };
        let record = StepRecord {
            created: created.clone(),
            made_by: made_by.to_owned(),
            layer: built.image.last_layer().filter(|_| made.is_some()),
        };
        let store = self.containers.store();
        self.replaced |= store.note_step(name, &record, built.image.staging())?;
        note(built, made_by, &created, made);
        Ok(())
    }

    /// List the image that a stage has become.
    pub(super) fn finish(&mut self, target: usize) -> Result<Loaded> {
        let Some(mut built) = self.built.remove(&target) else {
            return invalid("the stage was not built");
        };
        if !self.options.labels.is_empty() {
            let mut labels = match built.run.remove("Labels") {
                Some(Value::Object(labels)) => labels,
                _ => Map::new(),
            };
            for label in &self.options.labels {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                labels.insert(key.to_owned(), value.into());
            }
            built.run.insert("Labels".to_owned(), labels.into());
        }
        let run = std::mem::take(&mut built.run);
        built.image.config.insert("config".to_owned(), run.into());
        for kept_by_layers in ["created", "rootfs"] {
            built.image.config.remove(kept_by_layers);
        }
        // The same image again is the same, its time too.
        let all = json!({"image": built.image.config});
        let name = self.name(&built, &all)?;
        let known = self.containers.store().find_step(&name);
        let created = match known.filter(|_| !self.options.no_cache) {
            Some((record, _)) => record.created,
            None => {
                let (seconds, nanos) = self.latest.map_or_else(time::now, |l| (l, 0));
                let record = StepRecord {
                    created: time::format(seconds, nanos),
                    made_by: "image".to_owned(),
                    layer: None,
                };
                let store = self.containers.store();
                store.note_step(&name, &record, built.image.staging())?;
                record.created
            }
        };
        let config = &mut built.image.config;
        config.insert("created".to_owned(), created.clone().into());
        if let Some(Value::Array(history)) = config.get_mut("history") {
            for step in history {
                if let Some(when) = step.get_mut("created").filter(|c| **c == json!("")) {
                    *when = created.clone().into();
                }
            }
        }
        built.image.finish(self.options.names.clone())
    }
}

/// Write a step down in the image's history; one that makes no layer is told the
/// time of the whole image later.
pub(super) fn note(built: &mut Built<'_>, made_by: &str, created: &str, layer: Option<Digest>) {
    let step = MakingStep {
        created: created.to_owned(),
        created_by: made_by.to_owned(),
        ..MakingStep::default()
    };
    built.image.note(&step, layer);
}
