package store

import (
	"fmt"
	"os"
	"strings"
)

// inUse is why a SQLite file is refused, and what helps. lockFile is what its holder wrote.
func inUse(lockFile []byte) error {
	pid, _, _ := strings.Cut(string(lockFile), "\n")
	if pid == "" {
		pid = "unknown"
	}
	return fmt.Errorf("%w (process %s): stop that process, or give this one another data folder, "+
		"or let both share a PostgreSQL", ErrInUse, pid)
}

// writePID names this process in f, which is never empty to a reader once it was written.
func writePID(f *os.File) error {
	line := fmt.Appendf(nil, "%d\n", os.Getpid())
	if _, err := f.WriteAt(line, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(line)))
}
