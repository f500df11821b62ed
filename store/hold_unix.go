//go:build unix

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// A hold keeps other processes off a SQLite file. The kernel releases it when the process ends, however it ends.
// It is a file of its own beside the database: SQLite's own locks would be lost with any descriptor closed on that.
type hold struct{ f *os.File }

// takeHold locks the file path and writes this process's id into it. The file stays behind; its lock does not.
func takeHold(path string) (*hold, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		written, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		return nil, inUse(written)
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &hold{f}, nil
}

func (h *hold) release() error { return h.f.Close() }
