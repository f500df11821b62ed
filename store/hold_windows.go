package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// A hold keeps other processes off a SQLite file: it has the file beside it open for writing, and lets others only read.
type hold struct{ f *os.File }

const errSharingViolation = syscall.Errno(32)

func takeHold(path string) (*hold, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, syscall.FILE_SHARE_READ, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errSharingViolation) {
		pid, _ := os.ReadFile(path)
		return nil, inUse(strings.TrimSpace(string(pid)))
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	f := os.NewFile(uintptr(h), path)
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		f.Close()
		return nil, err
	}
	return &hold{f}, nil
}

func (h *hold) release() error { return h.f.Close() }
