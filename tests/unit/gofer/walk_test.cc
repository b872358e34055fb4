#include <dirent.h>

#include <set>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

TEST_F(GoferTest, AttachTellsThePropertiesOfEachMount) {
  auto writable = client_->Attach(0);
  ASSERT_OK(writable);
  EXPECT_FALSE(writable->read_only);
  EXPECT_TRUE(S_ISDIR(writable->attributes.mode));
  struct stat st;
  ASSERT_EQ(stat(dir_.path().c_str(), &st), 0);
  EXPECT_EQ(writable->attributes.ino, st.st_ino);
  EXPECT_EQ(writable->attributes.dev, st.st_dev);
  auto read_only = client_->Attach(1);
  ASSERT_OK(read_only);
  EXPECT_TRUE(read_only->read_only);
  auto sockets = client_->Attach(2);
  ASSERT_OK(sockets);
  EXPECT_TRUE(sockets->host_uds);
  EXPECT_TRUE(sockets->host_uds_create);
  EXPECT_TRUE(sockets->host_fifo);
  EXPECT_ERRNO(EINVAL, client_->Attach(3));
  EXPECT_FALSE(client_->broken());
}

TEST_F(GoferTest, WalkReturnsEveryComponentAndOpensTheLast) {
  dir_.MakeDirectory("a/b");
  dir_.Write("a/b/file", "hello");
  auto walked = Walk({"a", "b", "file"}, {.open = true, .open_flags = O_RDONLY});
  ASSERT_OK(walked);
  ASSERT_EQ(walked->components.size(), 3u);
  EXPECT_EQ(walked->stop_errno, 0);
  EXPECT_TRUE(S_ISDIR(walked->components[0].attributes.mode));
  EXPECT_TRUE(S_ISDIR(walked->components[1].attributes.mode));
  EXPECT_TRUE(S_ISREG(walked->components[2].attributes.mode));
  EXPECT_EQ(walked->components[2].attributes.size, 5u);
  struct stat st;
  ASSERT_EQ(stat((dir_ / "a/b/file").c_str(), &st), 0);
  EXPECT_EQ(walked->components[2].attributes.ino, st.st_ino);
  EXPECT_EQ(walked->components[2].attributes.mtime_ns, st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec);
  ASSERT_TRUE(walked->file.valid());
  char buffer[16];
  EXPECT_EQ(pread(walked->file.get(), buffer, sizeof(buffer), 0), 5);
  EXPECT_EQ(write(walked->file.get(), "x", 1), -1);
  // Nodes in the middle are nodes like any other.
  std::string_view names[] = {"file"};
  auto again = walked->components[1].node->Walk(names);
  ASSERT_OK(again);
  EXPECT_EQ(again->components[0].attributes.ino, st.st_ino);
}

TEST_F(GoferTest, WalkStopsWhereItHasTo) {
  dir_.MakeDirectory("a/b");
  dir_.Write("a/file", "");
  auto missing = Walk({"a", "b", "none", "more"});
  ASSERT_OK(missing);
  EXPECT_EQ(missing->components.size(), 2u);
  EXPECT_EQ(missing->stop_errno, ENOENT);
  auto not_directory = Walk({"a", "file", "more"});
  ASSERT_OK(not_directory);
  EXPECT_EQ(not_directory->components.size(), 2u);
  EXPECT_EQ(not_directory->stop_errno, ENOTDIR);
  EXPECT_TRUE(S_ISREG(not_directory->components[1].attributes.mode));
}

TEST_F(GoferTest, WalkNeverFollowsALink) {
  dir_.MakeDirectory("real");
  dir_.Write("real/file", "x");
  ASSERT_EQ(symlink("real", (dir_ / "link").c_str()), 0);
  ASSERT_EQ(symlink("/etc/passwd", (dir_ / "out").c_str()), 0);
  auto middle = Walk({"link", "file"});
  ASSERT_OK(middle);
  EXPECT_EQ(middle->stop_errno, 0);
  ASSERT_EQ(middle->components.size(), 1u);
  EXPECT_TRUE(S_ISLNK(middle->components[0].attributes.mode));
  EXPECT_EQ(middle->symlink_target, "real");
  auto last = Walk({"out"}, {.open = true});
  ASSERT_OK(last);
  ASSERT_EQ(last->components.size(), 1u);
  EXPECT_TRUE(S_ISLNK(last->components[0].attributes.mode));
  EXPECT_EQ(last->symlink_target, "/etc/passwd");
  EXPECT_FALSE(last->file.valid());
  // Nor does any other operation on the link's node.
  Node& node = *last->components[0].node;
  EXPECT_ERRNO(ELOOP, node.Open(O_RDONLY));
  EXPECT_ERRNO(ENOTDIR, node.Readdir(0));
  EXPECT_ERRNO(EOPNOTSUPP, node.SetAttr({.which = kSetMode, .mode = 0777}));
  EXPECT_ERRNO(EINVAL, node.SetAttr({.which = kSetSize, .size = 0}));
  auto beneath = node.Walk(std::vector<std::string_view>{"x"});
  ASSERT_OK(beneath);
  EXPECT_EQ(beneath->stop_errno, ENOTDIR);
  auto target = node.ReadLink();
  ASSERT_OK(target);
  EXPECT_EQ(*target, "/etc/passwd");
}

TEST_F(GoferTest, WalkWithoutNodesReturnsAttributesOnly) {
  dir_.MakeDirectory("a");
  dir_.Write("a/file", "12345");
  ASSERT_EQ(symlink("file", (dir_ / "a/link").c_str()), 0);
  auto walked = Walk({"a", "file"}, {.nodes = false});
  ASSERT_OK(walked);
  ASSERT_EQ(walked->components.size(), 2u);
  EXPECT_EQ(walked->components[0].node, nullptr);
  EXPECT_EQ(walked->components[1].attributes.size, 5u);
  auto link = Walk({"a", "link"}, {.nodes = false});
  ASSERT_OK(link);
  EXPECT_EQ(link->symlink_target, "file");
  auto missing = Walk({"a", "none"}, {.nodes = false});
  ASSERT_OK(missing);
  EXPECT_EQ(missing->stop_errno, ENOENT);
}

TEST_F(GoferTest, WalkOfNoNamesIsAnotherHandleForTheSameFile) {
  auto walked = Walk({});
  ASSERT_OK(walked);
  ASSERT_EQ(walked->components.size(), 1u);
  root_.reset();
  client_->FlushCloses();
  EXPECT_OK(walked->components[0].node->GetAttr());
}

TEST_F(GoferTest, LongWalksAreCutAtTheLimit) {
  std::string path;
  std::vector<std::string_view> names;
  for (size_t i = 0; i < kMaxWalkNames + 5; ++i) {
    path += "d/";
    names.push_back("d");
  }
  dir_.MakeDirectory(path);
  auto walked = root_->Walk(names);
  ASSERT_OK(walked);
  EXPECT_EQ(walked->components.size(), kMaxWalkNames);
  EXPECT_EQ(walked->stop_errno, 0);
}

TEST_F(GoferTest, NamesThatAreNotComponentsAreRefused) {
  const std::string nul("a\0b", 3);
  for (std::string_view name : {std::string_view(""), std::string_view("."), std::string_view(".."),
                                std::string_view("a/b"), std::string_view("/"), std::string_view(nul)}) {
    EXPECT_ERRNO(EINVAL, root_->Walk(std::span(&name, 1)));
    EXPECT_ERRNO(EINVAL, root_->Mkdir(name, {}));
    EXPECT_ERRNO(EINVAL, root_->Unlink(name));
  }
  const std::string long_name(256, 'x');
  EXPECT_ERRNO(ENAMETOOLONG, root_->Mkdir(long_name, {}));
  EXPECT_FALSE(client_->broken());
}

TEST_F(GoferTest, ANodeStaysItselfWhenItsNameGoes) {
  dir_.Write("file", "old");
  auto node = Get({"file"});
  ASSERT_EQ(unlink((dir_ / "file").c_str()), 0);
  dir_.Write("file", "something new");
  auto attributes = node->GetAttr();
  ASSERT_OK(attributes);
  EXPECT_EQ(attributes->size, 3u);
  EXPECT_EQ(attributes->nlink, 0u);
  auto file = node->Open(O_RDONLY);
  ASSERT_OK(file);
  char buffer[8];
  EXPECT_EQ(pread(file->get(), buffer, sizeof(buffer), 0), 3);
}

TEST_F(GoferTest, AWalkListsTheDirectoryItEndsAt) {
  dir_.MakeDirectory("d/sub");
  dir_.Write("d/file", "");
  const std::string_view to_directory[] = {"d"}, to_file[] = {"d", "file"}, to_nothing[] = {"d", "none"};
  auto walk = root_->Walk(to_directory, {.list = true});
  ASSERT_OK(walk);
  ASSERT_TRUE(walk->listing.has_value());
  EXPECT_TRUE(walk->listing->end);
  std::set<std::string> names;
  for (const DirectoryEntry& entry : walk->listing->entries) names.insert(entry.name);
  EXPECT_EQ(names, (std::set<std::string>{"file", "sub"}));
  // A file or nothing has no entries; an empty directory has none either, but an end.
  EXPECT_FALSE(root_->Walk(to_file, {.list = true})->listing.has_value());
  EXPECT_FALSE(root_->Walk(to_nothing, {.list = true})->listing.has_value());
  EXPECT_FALSE(root_->Walk(to_directory)->listing.has_value());
  const std::string_view to_empty[] = {"d", "sub"};
  walk = root_->Walk(to_empty, {.list = true});
  ASSERT_TRUE(walk->listing.has_value());
  EXPECT_TRUE(walk->listing->end && walk->listing->entries.empty());
  EXPECT_ERRNO(EINVAL, root_->Walk(to_directory, {.nodes = false, .list = true}));
}

TEST_F(GoferTest, AWalkListsTheBeginningOfALargeDirectory) {
  dir_.MakeDirectory("large");
  dir_.Write("file", "");
  for (int i = 0; i < 2'000; ++i) {
    ASSERT_EQ(link((dir_ / "file").c_str(), (dir_ / ("large/name-" + std::to_string(i))).c_str()), 0);
  }
  const std::string_view names[] = {"large"};
  auto walk = root_->Walk(names, {.list = true});
  ASSERT_OK(walk);
  ASSERT_TRUE(walk->listing.has_value());
  EXPECT_FALSE(walk->listing->end);
  size_t entries = walk->listing->entries.size();
  EXPECT_GT(entries, 100u);
  uint64_t cookie = walk->listing->entries.back().cookie;
  for (bool end = false; !end;) {
    auto chunk = walk->components[0].node->Readdir(cookie);
    ASSERT_OK(chunk);
    entries += chunk->entries.size();
    if (!chunk->entries.empty()) cookie = chunk->entries.back().cookie;
    end = chunk->end;
  }
  EXPECT_EQ(entries, 2'000u);
}

TEST_F(GoferTest, ReaddirDeliversTenThousandEntriesOnce) {
  dir_.MakeDirectory("big");
  // Links: making that many inodes takes seconds on some hosts.
  dir_.Write("file", "");
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_EQ(link((dir_ / "file").c_str(), (dir_ / ("big/entry-with-a-name-" + std::to_string(i))).c_str()), 0);
  }
  auto big = Get({"big"});
  for (size_t chunk_bytes : {size_t{0}, size_t{4096}, kMaxReaddirBytes}) {
    std::set<std::string> names;
    size_t entries = 0, messages = 0;
    uint64_t cookie = 0;
    for (bool end = false; !end && messages < 20'000; ++messages) {
      auto chunk = big->Readdir(cookie, chunk_bytes);
      ASSERT_OK(chunk);
      end = chunk->end;
      for (const DirectoryEntry& entry : chunk->entries) {
        names.insert(entry.name);
        ++entries;
        cookie = entry.cookie;
        EXPECT_TRUE(entry.type == DT_REG || entry.type == DT_UNKNOWN);
      }
    }
    EXPECT_EQ(entries, 10'000u);
    EXPECT_EQ(names.size(), 10'000u);
    EXPECT_EQ(names.count("."), 0u);
    if (chunk_bytes == kMaxReaddirBytes) {
      EXPECT_LT(messages, 20u);
    }
  }
}

TEST_F(GoferTest, ReaddirContinuesAtACookieAfterOtherStreamsPushedItOut) {
  for (int d = 0; d < 40; ++d) {
    for (int i = 0; i < 100; ++i) {
      dir_.MakeDirectory("dir" + std::to_string(d));
      dir_.Write("dir" + std::to_string(d) + "/a-file-with-a-long-name-" + std::to_string(i), "");
    }
  }
  struct Stream {
    base::RefPtr<Node> node;
    uint64_t cookie = 0;
    size_t entries = 0;
    bool end = false;
  };
  std::vector<Stream> streams(40);
  for (int d = 0; d < 40; ++d) streams[d].node = Get({"dir" + std::to_string(d)});
  for (int round = 0; round < 100; ++round) {
    for (Stream& stream : streams) {
      if (stream.end) continue;
      auto chunk = stream.node->Readdir(stream.cookie, 1024);
      ASSERT_OK(chunk);
      stream.end = chunk->end;
      stream.entries += chunk->entries.size();
      if (!chunk->entries.empty()) stream.cookie = chunk->entries.back().cookie;
    }
  }
  for (Stream& stream : streams) {
    EXPECT_TRUE(stream.end);
    EXPECT_EQ(stream.entries, 100u);
  }
}

TEST_F(GoferTest, ReaddirOfAnEmptyDirectoryEndsAtOnce) {
  dir_.MakeDirectory("empty");
  auto chunk = Get({"empty"})->Readdir(0, 1);
  ASSERT_OK(chunk);
  EXPECT_TRUE(chunk->end);
  EXPECT_TRUE(chunk->entries.empty());
  dir_.Write("file", "");
  EXPECT_ERRNO(ENOTDIR, Get({"file"})->Readdir(0));
}

TEST_F(GoferTest, NodeLimitIsAnErrorAndNotTheEnd) {
  TempDirectory dir;
  dir.MakeDirectory("a/b/c/d/e/f/g/h");
  RunningServer server(OneMount(dir), {.max_nodes = 4});
  auto client = Client::Create(std::move(server.client_end));
  auto attached = client->Attach(0);
  ASSERT_OK(attached);
  EXPECT_EQ(attached->max_nodes, 4u);
  std::vector<std::string_view> names = {"a", "b", "c", "d", "e"};
  {
    auto walked = attached->root->Walk(names);
    ASSERT_OK(walked);
    EXPECT_EQ(walked->components.size(), 3u);
    EXPECT_EQ(walked->stop_errno, ENFILE);
    EXPECT_ERRNO(ENFILE, attached->root->Mkdir("new", {.mode = 0755}));
    EXPECT_FALSE(std::filesystem::exists(dir / "new"));
    auto unbounded = attached->root->Walk(names, {.nodes = false});
    ASSERT_OK(unbounded);
    EXPECT_EQ(unbounded->components.size(), 5u);
  }
  // Dropped nodes go with the next request.
  auto walked = attached->root->Walk(std::span(names).first(3));
  ASSERT_OK(walked);
  EXPECT_EQ(walked->components.size(), 3u);
  EXPECT_EQ(walked->stop_errno, 0);
  walked = base::Errno(EIO);
  attached = base::Errno(EIO);
  client.reset();
}

}  // namespace
}  // namespace gofer
