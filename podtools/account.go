package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ours begins the names of variables that only podtools needs and no process of the renter sees.
const ours = "GPUYARD_"

// account is who sessions run as: the user of the container, as its image describes it.
type account struct{ name, home, shell string }

// me reads /etc/passwd by hand: without it, or without a line for this user, as in images with a
// number for a user, everything has a default.
func me() account {
	found := account{name: strconv.Itoa(os.Getuid()), home: os.Getenv("HOME")}
	if os.Getuid() == 0 {
		found.name = "root"
	}
	if file, err := os.Open("/etc/passwd"); err == nil {
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			field := strings.Split(lines.Text(), ":")
			if len(field) >= 7 && field[2] == strconv.Itoa(os.Getuid()) {
				found.name, found.shell = field[0], field[6]
				if found.home == "" {
					found.home = field[5]
				}
				break
			}
		}
	}
	if !isFolder(found.home) {
		found.home = "/"
	}
	found.shell = shell(found.shell)
	return found
}

// shell is the login shell if it exists, else the usual ones; empty in an image without any. What
// the image gives its user to keep people out (nologin, false) is not for the renter.
func shell(wanted string) string {
	switch filepath.Base(wanted) {
	case "nologin", "false", "true", ".":
		wanted = ""
	}
	for _, each := range []string{wanted, "/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"} {
		if each != "" {
			if path, err := exec.LookPath(each); err == nil {
				return path
			}
		}
	}
	return ""
}

// environment is the container's, as its image and the renter set it.
func environment() []string {
	var kept []string
	for _, each := range os.Environ() {
		if !strings.HasPrefix(each, ours) {
			kept = append(kept, each)
		}
	}
	return kept
}

func isFolder(path string) bool {
	about, err := os.Stat(path)
	return err == nil && about.IsDir()
}
