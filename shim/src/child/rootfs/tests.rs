use super::{Overlay, split_layers};

#[test]
fn layers_may_contain_escaped_colons() {
    assert_eq!(split_layers("/a:/b\\:c:/d\\\\"), ["/a", "/b:c", "/d\\"]);
    assert_eq!(split_layers(""), Vec::<String>::new());
}

#[test]
fn the_older_way_names_layers_relative_to_their_directory() {
    let options = [
        "lowerdir=/r/l/1/fs:/r/l/2/fs:/r/l/33/fs",
        "upperdir=/r/u",
        "workdir=/r/w,x",
        "volatile",
        "ro",
    ];
    let overlay = Overlay::parse(&options.map(str::to_owned));
    let (directory, data) = overlay.page();
    assert_eq!(directory, "/r/l/");
    assert_eq!(data, "lowerdir=1/fs:2/fs:33/fs,upperdir=/r/u,workdir=/r/w\\,x,volatile");
}
