package store

import (
	"errors"
	"fmt"
	"os"
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
		written, _ := os.ReadFile(path)
		return nil, inUse(written)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	f := os.NewFile(uintptr(h), path)
	if err := writePID(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &hold{f}, nil
}

func (h *hold) release() error { return h.f.Close() }
