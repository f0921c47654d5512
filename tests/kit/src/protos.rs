//! `.proto` files in memory.

use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver},
};

struct Sources(Vec<(&'static str, String)>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let (_, source) =
            self.0.iter().find(|(file, _)| *file == name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, source)
    }
}

/// These files, by name and content, compiled with what they import. `landfall/options.proto` and those of protobuf itself can be
/// imported too.
pub fn compiled<const N: usize>(files: [(&'static str, String); N]) -> Result<Compiler, protox::Error> {
    let names = files.each_ref().map(|(name, _)| *name);
    let options = ("landfall/options.proto", include_str!("../../../proto/landfall/options.proto").to_owned());
    let mut resolver = ChainFileResolver::new();
    resolver.add(Sources(files.into_iter().chain([options]).collect()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_files(names)?;
    Ok(compiler)
}
