//go:build unix

package main

import (
	"path/filepath"
	"syscall"
)

const (
	filesFew = 10_000  // sockets: one file each
	diskFew  = 1 << 30 // bytes
)

// machine looks at what the system allows.
func (d *doctor) machine() {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		if n := uint64(files.Max); n < filesFew { //nolint:unconvert // signed on some systems
			d.warn("files", "raise it: `ulimit -Hn`, LimitNOFILE= in systemd, ulimits: in compose", "this process may open %d: as many sockets and no more", n)
		} else {
			d.ok("files", "up to %d sockets", n)
		}
	}
	var disk syscall.Statfs_t
	folder := d.s.get("DATA")
	for syscall.Statfs(folder, &disk) != nil && folder != filepath.Dir(folder) { // the folder comes with the first start
		folder = filepath.Dir(folder)
	}
	if free := uint64(disk.Bavail) * uint64(disk.Bsize); free < diskFew { //nolint:gosec,unconvert // never negative here; signed on some systems
		d.warn("disk", "make room, or move WXHUB_DATA", "%d MiB are free for %s", free>>20, d.s.get("DATA"))
	} else {
		d.ok("disk", "%d GiB are free for %s", free>>30, d.s.get("DATA"))
	}
}
