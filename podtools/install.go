package main

import (
	"io"
	"os"
	"path/filepath"
)

// install copies this very binary to dir, executable by everybody and complete or not there.
func install(dir string) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	made, err := os.CreateTemp(dir, ".podtools-*")
	if err != nil {
		return err
	}
	defer os.Remove(made.Name())
	if _, err := io.Copy(made, self); err != nil {
		return err
	}
	if err := made.Chmod(0o755); err != nil {
		return err
	}
	if err := made.Close(); err != nil {
		return err
	}
	return os.Rename(made.Name(), filepath.Join(dir, "podtools"))
}
