# shellcheck shell=bash
# The file trees that become layers, made from Debian packages. Sourced by hack/images.sh.

fetch_debs() { # PACKAGE...: downloaded and unpacked once
	local package
	for package in "$@"; do
		[ -e "$DEBS/$package.done" ] && continue
		rm -f "$DEBS/${package}"_*.deb
		# Without lists, or with stale ones, apt finds nothing: new ones, once.
		download_deb "$package" 2>/dev/null || { apt-get -qq update && download_deb "$package"; } ||
			die "apt-get could not download '$package'" "Read its words above; the machine must reach a Debian mirror."
		dpkg-deb -x "$DEBS/$package"_*.deb "$STAGE"
		touch "$DEBS/$package.done"
	done
}

download_deb() { (cd "$DEBS" && apt-get -qq -o APT::Sandbox::User=root download "$1"); }

libraries_of() { # PROGRAM -> the loader and the libraries it needs, all from STAGE
	local loader=/lib64/ld-linux-x86-64.so.2 path
	path=$STAGE/lib/x86_64-linux-gnu:$STAGE/usr/lib/x86_64-linux-gnu
	"$STAGE$loader" --library-path "$path" --list "$1" | awk -v s="$STAGE" '$3 ~ "^" s {print $3}'
	echo "$STAGE$loader"
}

install_program() { # TREE PROGRAM DESTINATION [MODE]
	local library
	install -D -m "${4:-755}" "$2" "$1/$3"
	for library in $(libraries_of "$2"); do
		case $library in
		*/ld-linux*) install -D -m 755 "$library" "$1/lib64/${library##*/}" ;;
		*) install -D -m 644 "$library" "$1/lib/x86_64-linux-gnu/${library##*/}" ;;
		esac
	done
}

new_tree() { # NAME -> an empty directory
	rm -rf "${WORK:?}/$1"
	mkdir -p "$WORK/$1"
	echo "$WORK/$1"
}

busybox_tree() { # the userland below every other image
	local t applet
	t=$(new_tree busybox)
	mkdir -p "$t"/{bin,dev,etc,home,proc,root,sys,usr/bin,usr/sbin,var/spool,var/run}
	mkdir -m 1777 "$t/tmp"
	chmod 700 "$t/root"
	# Not busybox-static: its shell runs `ls` by itself even where the file /bin/ls is masked, and
	# critest masks it to see that nothing runs.
	install_program "$t" "$STAGE/bin/busybox" bin/busybox
	# A hard link per applet, for the same reason: hiding one file must not hide the others.
	for applet in $("$t/lib64/ld-linux-x86-64.so.2" --library-path "$t/lib/x86_64-linux-gnu" "$t/bin/busybox" --list); do
		[ "$applet" = busybox ] || ln "$t/bin/busybox" "$t/bin/$applet"
	done
	# critest runs these two, and Debian's busybox has neither.
	cat >"$t/usr/bin/pgrep" <<-'SH'
		#!/bin/sh
		exec pidof "$@"
	SH
	cat >"$t/usr/bin/ipcs" <<-'SH'
		#!/bin/sh
		case ${1:--m} in
		-m) exec cat /proc/sysvipc/shm ;;
		-q) exec cat /proc/sysvipc/msg ;;
		-s) exec cat /proc/sysvipc/sem ;;
		esac
		echo "ipcs: no option $1" >&2
		exit 1
	SH
	chmod 755 "$t"/usr/bin/*
	cat >"$t/etc/passwd" <<-'TXT'
		root:x:0:0:root:/root:/bin/sh
		daemon:x:1:1:daemon:/usr/sbin:/bin/false
		bin:x:2:2:bin:/bin:/bin/false
		www-data:x:33:33:www-data:/var/www:/bin/false
		nobody:x:65534:65534:nobody:/home:/bin/false
	TXT
	cat >"$t/etc/group" <<-'TXT'
		root:x:0:
		daemon:x:1:
		bin:x:2:
		www-data:x:33:
		nogroup:x:65534:
	TXT
	echo "$t"
}

marker_tree() { # NAME: one file, which makes an otherwise equal image a different one
	local t
	t=$(new_tree "marker-$1")
	echo "$1" >"$t/$1"
	echo "$t"
}

pause_tree() {
	local t
	t=$(new_tree pause)
	# catatonit is a static init; with -P it only waits and reaps.
	install -m 755 "$STAGE/usr/bin/catatonit" "$t/pause"
	echo "$t"
}

nginx_tree() {
	local t
	t=$(new_tree nginx)
	install_program "$t" "$STAGE/usr/sbin/nginx" usr/sbin/nginx
	mkdir -p "$t"/etc/nginx "$t"/usr/share/nginx/html "$t"/var/lib/nginx "$t"/var/log/nginx "$t"/var/run
	echo '<!DOCTYPE html><title>nginx</title><h1>It works (nginx)</h1>' >"$t/usr/share/nginx/html/index.html"
	echo "$t"
}

nginx_conf_tree() { # PORT
	local t
	t=$(new_tree "nginx-conf-$1")
	mkdir -p "$t/etc/nginx"
	cat >"$t/etc/nginx/nginx.conf" <<-CONF
		user nobody nogroup;
		worker_processes 1;
		pid /var/run/nginx.pid;
		error_log /dev/stderr notice;
		events { worker_connections 128; }
		http {
		    access_log /dev/stdout;
		    default_type text/html;
		    server {
		        listen $1;
		        root /usr/share/nginx/html;
		        index index.html;
		    }
		}
	CONF
	echo "$t"
}

httpd_tree() { # critest's "httpd", served by busybox
	local t
	t=$(new_tree httpd)
	mkdir -p "$t"/usr/local/bin "$t"/usr/local/apache2/htdocs
	echo '<!DOCTYPE html><title>httpd</title><h1>It works (httpd)</h1>' >"$t/usr/local/apache2/htdocs/index.html"
	cat >"$t/usr/local/bin/httpd-foreground" <<-'SH'
		#!/bin/sh
		echo "httpd: listening on port 80" >&2
		exec httpd -f -v -p 80 -h /usr/local/apache2/htdocs
	SH
	chmod 755 "$t/usr/local/bin/httpd-foreground"
	echo "$t"
}

web_tree() { # the web server of the demo and of our tests
	local t
	t=$(new_tree web)
	mkdir -p "$t/srv"
	echo 'Hello from a pod run by copepod.' >"$t/srv/index.html"
	echo "$t"
}

nonewprivs_tree() { # a set-user-id interpreter that reports its effective uid
	local t
	t=$(new_tree nonewprivs)
	install_program "$t" "$STAGE/usr/bin/mawk" nnp 4755
	echo "$t"
}

groups_tree() {
	local t
	t=$(new_tree groups)
	mkdir -p "$t/etc" "$t/home/default-user"
	cp "$WORK"/busybox/etc/{passwd,group} "$t/etc"
	echo 'default-user:x:1000:1000::/home/default-user:/bin/sh' >>"$t/etc/passwd"
	printf '%s\n' 'default-user:x:1000:' 'group-defined-in-image:x:50000:default-user' >>"$t/etc/group"
	echo "$t"
}

whiteout_lower_tree() {
	local t
	t=$(new_tree whiteout-lower)
	mkdir -p "$t"/w/{gone-dir,opaque,becomes-file}
	echo old | tee "$t"/w/{gone-file,kept,becomes-dir,gone-dir/inside,opaque/hidden,becomes-file/inside} >/dev/null
	echo "$t"
}

whiteout_upper_tree() {
	local t
	t=$(new_tree whiteout-upper)
	mkdir -p "$t"/w/{opaque,becomes-dir}
	touch "$t"/w/.wh.gone-file "$t"/w/.wh.gone-dir "$t"/w/opaque/.wh..wh..opq
	echo new | tee "$t"/w/{becomes-file,becomes-dir/inside,opaque/seen} >/dev/null
	echo "$t"
}
