//! Which images are one driver, what each was built from, and which symbols it has.

use std::path::{Path, PathBuf};

use bpf2sys_pe_emit::Machine;

use super::usage;
use crate::package::{self, Driver, driver_name};
use crate::{Error, files};

/// An image to package, and what it was built from.
pub(super) struct Image {
    pub path: PathBuf,
    /// Name of the driver that it is an image of.
    pub driver: String,
    pub machine: Machine,
    pub bytes: Vec<u8>,
    /// The object's path.
    pub object_name: String,
    pub object: Vec<u8>,
}

/// Reads images and their objects: one object for all of one driver, in the order of the drivers.
pub(super) fn read_images(paths: &[PathBuf], objects: &[PathBuf]) -> Result<Vec<Image>, Error> {
    let mut images: Vec<Image> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for path in paths {
        let bytes = files::read(path)?;
        let machine = package::machine(&bytes)?;
        let file = file_name(path)?;
        let driver = driver_name(&file, machine)?;
        if images
            .iter()
            .any(|image| image.driver == driver && image.machine == machine)
        {
            return Err(usage(format!("there are two images of `{driver}` for {machine}")));
        }
        if !names.contains(&driver) {
            names.push(driver.clone());
        }
        images.push(Image {
            path: path.clone(),
            driver,
            machine,
            bytes,
            object_name: String::new(),
            object: Vec::new(),
        });
    }
    if names.len() != objects.len() {
        return Err(usage(format!(
            "there are {} drivers (`{}`) and {} objects: `--object` names one for each driver",
            names.len(),
            names.join("`, `"),
            objects.len()
        )));
    }
    for (name, path) in names.iter().zip(objects) {
        let object = files::read(path)?;
        for image in images.iter_mut().filter(|image| image.driver == *name) {
            image.object_name = path.to_string_lossy().into_owned();
            image.object.clone_from(&object);
        }
    }
    Ok(images)
}

/// The drivers of a package, with the files that go into it as they are.
pub(super) fn drivers(images: &[Image], inf: Option<&Path>, symbols: &[PathBuf]) -> Result<Vec<Driver>, Error> {
    let mut drivers: Vec<Driver> = Vec::new();
    for image in images {
        let entry = (image.machine, image.bytes.clone());
        match drivers.iter_mut().find(|driver| driver.name == image.driver) {
            Some(driver) => driver.images.push(entry),
            None => drivers.push(Driver {
                name: image.driver.clone(),
                images: vec![entry],
                symbols: Vec::new(),
                inf: None,
            }),
        }
    }
    if let Some(path) = inf {
        let [driver] = drivers.as_mut_slice() else {
            return Err(usage("`--inf` is the INF of one driver, and there are several".into()));
        };
        driver.inf = Some(files::read(path)?);
    }
    for path in symbols {
        let image = image_of(images, path)?;
        let symbols = (image.machine, file_name(path)?, files::read(path)?);
        if let Some(driver) = drivers.iter_mut().find(|driver| driver.name == image.driver) {
            driver.symbols.push(symbols);
        }
    }
    Ok(drivers)
}

/// The image that symbols belong to.
fn image_of<'a>(images: &'a [Image], symbols: &Path) -> Result<&'a Image, Error> {
    if let [image] = images {
        return Ok(image);
    }
    let image = images
        .iter()
        .find(|image| image.path.file_stem() == symbols.file_stem());
    image.ok_or_else(|| {
        usage(format!(
            "no image has the name of the symbols `{}`, but for the extension",
            symbols.display()
        ))
    })
}

fn file_name(path: &Path) -> Result<String, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) if name.is_ascii() => Ok(name.to_owned()),
        _ => Err(usage(format!(
            "`{}` needs a name in ASCII to be in a package",
            path.display()
        ))),
    }
}
