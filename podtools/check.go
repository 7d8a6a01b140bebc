package main

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Vendors' tools take seconds when a driver has just been loaded; one that hangs is a broken card.
const checkLimit = 60 * time.Second

// card is one device as the vendor's tool names it.
type card struct {
	UID    string `json:"uid"`
	Model  string `json:"model"`
	Memory *int64 `json:"memory_mib"` // null of a part, whose profile in the model's name says it
	Used   *int64 `json:"used_mib"`   // by whoever had it before, or has it as well; null: not told
}

// split is how a vendor's tool tells of a card that its owner split: a command that lists the parts a
// container sees, and an expression for its lines. Where it names "card" a card begins; where it names
// "part" and "uid" it is a part of that card.
type split struct{ line, read string }

// check writes the cards that this container sees into message, its termination message, which is
// readable with no more than the right to see pods. line: the vendor's command, one line per card:
// id, model, MiB. usage: the reporter's command, for what of their memory is in use although nothing
// of this pod's ran yet; "" where none is known. parts: asked as well where a card may be split, which
// it does not say itself; parts that are listed are what there is. Whether these are the cards that were ordered, and
// whether they are free, is decided by who reads it.
func check(message, line, usage string, parts split) error {
	patience, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	said, err := ask(patience, line)
	if err != nil {
		os.WriteFile(message, []byte("the check of the cards failed"), 0o644)
		return err
	}
	found := []card{}
	for _, row := range strings.Split(string(said), "\n") {
		field := strings.SplitN(row, ",", 3)
		for len(field) < 3 {
			field = append(field, "")
		}
		if uid := strings.TrimSpace(field[0]); uid != "" {
			memory := mebibytes(field[2])
			found = append(found, card{uid, strings.TrimSpace(field[1]), &memory, nil})
		}
	}
	if parts.line != "" {
		listed, err := parts.list(patience)
		if err != nil {
			os.WriteFile(message, []byte("the check for parts of the cards failed"), 0o644)
			return err
		}
		if len(listed) > 0 {
			found = listed
		}
	}
	if usage != "" {
		tell(found, cards(usage))
	}
	told, err := json.Marshal(map[string][]card{"devices": found})
	if err != nil {
		return err
	}
	return os.WriteFile(message, told, 0o644)
}

// list names the parts that this container sees, none where its cards are whole.
func (parts split) list(patience context.Context) ([]card, error) {
	pattern, err := regexp.Compile(parts.read)
	if err != nil {
		return nil, err
	}
	said, err := ask(patience, parts.line)
	if err != nil {
		return nil, err
	}
	found, whole := []card{}, ""
	for _, row := range strings.Split(string(said), "\n") {
		named := map[string]string{}
		for number, value := range pattern.FindStringSubmatch(row) {
			named[pattern.SubexpNames()[number]] = strings.TrimSpace(value)
		}
		if named["card"] != "" {
			whole = named["card"]
		}
		if named["part"] != "" {
			found = append(found, card{named["uid"], whole + " " + named["part"], nil, nil})
		}
	}
	return found, nil
}

// tell puts the memory in use of each device beside the card with its id.
func tell(found []card, devices []device) {
	for _, each := range devices {
		for number := range found {
			if each.MemoryUsed != nil && name(found[number].UID) == each.ID {
				used := *each.MemoryUsed / mebibyte
				found[number].Used = &used
			}
		}
	}
}

// mebibytes is zero for what is no number, which is no card's memory.
func mebibytes(text string) int64 {
	whole, _, _ := strings.Cut(strings.TrimSpace(text), ".")
	value, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0
	}
	return value
}
